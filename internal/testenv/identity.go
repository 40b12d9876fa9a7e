package testenv

import "strings"

// An Identity is a person, or a program with a client id, whom the origin
// knows.
type Identity struct {
	ID        int    // 0 is the next free number
	Name      string // the name to log in with
	Password  string
	FirstName string // "" is the name
	LastName  string
	Gender    string
	Role      string // "" is user
}

// ClientID and ClientSecret are for grant_type=client_credentials.
const (
	ClientID     = "robot"
	ClientSecret = "robotpass"
)

// known lists everybody, with what was left out filled in.
func (o *Origin) known() []*Identity {
	all := []Identity{
		{ID: 1, Name: "emilys", Password: "emilyspass", FirstName: "Emily", LastName: "Johnson", Gender: "female", Role: "admin"},
		{ID: 2, Name: "alice", Password: "alicepass", FirstName: "Alice", LastName: "Archer", Gender: "female"},
		{ID: 3, Name: "bob", Password: "bobpass", FirstName: "Bob", LastName: "Baker", Gender: "male"},
		{ID: 4, Name: ClientID, Password: ClientSecret, FirstName: "Robot", Role: "machine"},
	}
	all = append(all, o.Identities...)
	known := make([]*Identity, len(all))
	for i := range all {
		one := &all[i]
		if one.ID == 0 {
			one.ID = i + 1
		}
		if one.FirstName == "" {
			one.FirstName = one.Name
		}
		if one.Role == "" {
			one.Role = "user"
		}
		known[i] = one
	}
	return known
}

func (i *Identity) email() string {
	return strings.ToLower(i.FirstName + "." + i.LastName + "@shop.example")
}

func (i *Identity) image() string { return "https://shop.example/icon/" + i.Name + "/128" }
