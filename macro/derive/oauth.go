package derive

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"

	"github.com/holdfast-proxy/holdfast/macro"
)

// madeUp puts what a client makes up for each login into the request that begins
// one: state (RFC 6749 §10.12), nonce (OpenID Connect Core §3.1.2.1) and the
// challenge of RFC 7636, whose verifier goes into the request for the token.
// later are this item and those after it.
func (it *item) madeUp(s *slot, later []*item) bool {
	name := ""
	switch s.label {
	case "query:state":
		name = macro.NameState
	case "query:nonce":
		name = macro.NameNonce
	case "query:code_challenge":
		if verifierOf(s.text, later) == nil {
			return false
		}
		name = macro.NameChallenge
	default:
		return false
	}
	if it.slot("query:client_id") == nil || it.slot("query:response_type") == nil || !looksMade(s.text) {
		return false
	}
	it.put(edit{slot: s, variable: name}, 0, len(s.text))
	if name == macro.NameChallenge {
		v := verifierOf(s.text, later)
		v.item.put(edit{slot: v.slot, variable: macro.NameVerifier}, 0, len(v.slot.text))
	}
	return true
}

func (it *item) slot(label string) *slot {
	i := slices.IndexFunc(it.req.slots, func(s slot) bool { return s.label == label })
	if i < 0 {
		return nil
	}
	return &it.req.slots[i]
}

type slotOf struct {
	item *item
	slot *slot
}

// verifierOf is the place of the verifier of a challenge; nil where no later
// request has it.
func verifierOf(challenge string, later []*item) *slotOf {
	for _, it := range later {
		for _, label := range []string{"form:code_verifier", "json:/code_verifier"} {
			s := it.slot(label)
			if s == nil {
				continue
			}
			if h := sha256.Sum256([]byte(s.text)); base64.RawURLEncoding.EncodeToString(h[:]) == challenge {
				return &slotOf{it, s}
			}
		}
	}
	return nil
}
