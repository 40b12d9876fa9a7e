package flow

// The schemes of Auth.
const (
	AuthBasic  = "basic"  // RFC 7617
	AuthDigest = "digest" // RFC 7616
	AuthNTLM   = "ntlm"   // [MS-NTHT]: of a connection, which nobody else is given
)

// AuthSchemes lists them.
func AuthSchemes() []string { return []string{AuthBasic, AuthDigest, AuthNTLM} }

// Auth is how the end of the pipeline logs a request in by HTTP authentication
// (RFC 9110 §11). It is never changed once a flow has it.
type Auth struct {
	Scheme             string // one of the Auth constants
	Username, Password string // of NTLM with its domain in front: SHOP\alice
}
