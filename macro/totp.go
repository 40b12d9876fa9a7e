package macro

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"hash"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// NameTOTP is the identity's one-time code of the moment.
const NameTOTP = "totp"

// The hash functions of one-time codes (RFC 6238 §1.2).
const (
	TOTPSHA1   = "SHA1"
	TOTPSHA256 = "SHA256"
	TOTPSHA512 = "SHA512"
)

// TOTP makes one-time codes (RFC 6238). ParseTOTP makes one.
type TOTP struct {
	Secret    []byte
	Algorithm string // one of the TOTP constants
	Digits    int    // 6 to 8
	Period    time.Duration
}

// ParseTOTP reads a secret in base32 (RFC 4648 §6, in either case, with or
// without padding, blanks and hyphens between) for codes of SHA1, 6 digits and
// 30 seconds, or an otpauth://totp/ URI as it stands in QR codes (Key URI
// Format). Errors never hold the secret.
func ParseTOTP(s string) (*TOTP, error) {
	t := &TOTP{Algorithm: TOTPSHA1, Digits: 6, Period: 30 * time.Second}
	s = strings.TrimSpace(s)
	secret := s
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil || !strings.EqualFold(u.Scheme, "otpauth") {
			return nil, fmt.Errorf("this is no otpauth:// URI")
		}
		if !strings.EqualFold(u.Host, "totp") {
			return nil, fmt.Errorf("the URI is not of otpauth://totp/: only codes that go by time are made here")
		}
		if secret, err = t.parameters(u.Query()); err != nil {
			return nil, err
		}
	}
	secret = strings.ToUpper(strings.NewReplacer(" ", "", "-", "", "=", "").Replace(secret))
	var err error
	if t.Secret, err = base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret); err != nil || len(t.Secret) == 0 {
		return nil, fmt.Errorf("the secret is not base32: letters A to Z and digits 2 to 7")
	}
	return t, nil
}

func (t *TOTP) parameters(query url.Values) (secret string, err error) {
	if v := query.Get("algorithm"); v != "" {
		t.Algorithm = strings.ToUpper(strings.ReplaceAll(v, "-", ""))
	}
	switch t.Algorithm {
	case TOTPSHA1, TOTPSHA256, TOTPSHA512:
	default:
		return "", fmt.Errorf("the algorithm is none of SHA1, SHA256, SHA512")
	}
	if v := query.Get("digits"); v != "" {
		if t.Digits, err = strconv.Atoi(v); err != nil || t.Digits < 6 || t.Digits > 8 {
			return "", fmt.Errorf("digits is not a number from 6 to 8")
		}
	}
	if v := query.Get("period"); v != "" {
		seconds, err := strconv.Atoi(v)
		if err != nil || seconds < 1 || seconds > 3600 {
			return "", fmt.Errorf("period is not a number of seconds from 1 to 3600")
		}
		t.Period = time.Duration(seconds) * time.Second
	}
	return query.Get("secret"), nil
}

// Step is the number of the time step that a moment is in (RFC 6238 §4.2).
func (t *TOTP) Step(at time.Time) int64 { return at.Unix() / int64(t.Period/time.Second) }

// Begin is when a step begins.
func (t *TOTP) Begin(step int64) time.Time { return time.Unix(step*int64(t.Period/time.Second), 0) }

// Code is the code of a step (RFC 4226 §5.3).
func (t *TOTP) Code(step int64) string {
	var algorithm func() hash.Hash
	switch t.Algorithm {
	case TOTPSHA256:
		algorithm = sha256.New
	case TOTPSHA512:
		algorithm = sha512.New
	default:
		algorithm = sha1.New
	}
	mac := hmac.New(algorithm, t.Secret)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(step)))
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 15
	code, modulus := binary.BigEndian.Uint32(sum[at:])&0x7fffffff, uint32(1)
	for range t.Digits {
		modulus *= 10
	}
	return fmt.Sprintf("%0*d", t.Digits, code%modulus)
}
