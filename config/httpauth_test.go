package config_test

import (
	"slices"
	"testing"

	"github.com/holdfast-proxy/holdfast/config"
)

// A certificate of an identity is shown for it alone, behind what origins says.
func TestIdentityCertificate(t *testing.T) {
	const src = `
identities:
  alice: {auth: {type: client_certificate, certificate: {pkcs12: alice.p12, password: "${env:P12}"}, hosts: [api.example]}}
  bob: {auth: [{type: client_certificate, certificate: {pem: bob.pem}}]}
origins: [{hosts: [api.example], min_tls: "1.3"}]
`
	file, _, err := config.Parse("x.yaml", []byte(src), everything())
	if err != nil {
		t.Fatal(err)
	}
	all := file.Ways.Origins
	if len(all) != 3 || all[0].Certificate != nil || all[1].Certificate == nil || all[2].Certificate == nil {
		t.Fatalf("the ways to origins are %+v", all)
	}
	if !slices.Equal(all[1].Identities, []string{"alice"}) || len(all[1].Hosts) != 1 || !slices.Equal(all[2].Identities, []string{"bob"}) || len(all[2].Hosts) != 0 {
		t.Errorf("the ways to origins are %+v", all)
	}
}
