package macro_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

// The vectors of RFC 6238 appendix B.
func TestTOTPVectors(t *testing.T) {
	const digits = "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
	for _, c := range []struct {
		at                   int64
		sha1, sha256, sha512 string
	}{
		{59, "94287082", "46119246", "90693936"},
		{1111111109, "07081804", "68084774", "25091201"},
		{1111111111, "14050471", "67062674", "99943326"},
		{1234567890, "89005924", "91819424", "93441116"},
		{2000000000, "69279037", "90698825", "38618901"},
		{20000000000, "65353130", "77737706", "47863826"},
	} {
		for algorithm, want := range map[string]string{macro.TOTPSHA1: c.sha1, macro.TOTPSHA256: c.sha256, macro.TOTPSHA512: c.sha512} {
			size := map[string]int{macro.TOTPSHA1: 20, macro.TOTPSHA256: 32, macro.TOTPSHA512: 64}[algorithm]
			code := &macro.TOTP{Secret: []byte(digits[:size]), Algorithm: algorithm, Digits: 8, Period: 30 * time.Second}
			if got := code.Code(code.Step(time.Unix(c.at, 0))); got != want {
				t.Errorf("%s at %d: %s, want %s", algorithm, c.at, got, want)
			}
		}
	}
}

func TestParseTOTP(t *testing.T) {
	hello := macro.TOTP{Secret: []byte("Hello!\xde\xad\xbe\xef"), Algorithm: "SHA1", Digits: 6, Period: 30 * time.Second}
	long := hello
	long.Algorithm, long.Digits, long.Period = "SHA512", 8, time.Minute
	for text, want := range map[string]*macro.TOTP{
		"JBSWY3DPEHPK3PXP":        &hello,
		" jbsw y3dp-ehpk 3pxp== ": &hello,
		"otpauth://totp/Shop:alice?secret=JBSWY3DPEHPK3PXP&issuer=Shop":                 &hello,
		"otpauth://totp/a?secret=jbswy3dpehpk3pxp&algorithm=sha-512&digits=8&period=60": &long,
		"":                               nil,
		"otpauth://totp/a":               nil,
		"otpauth://hotp/a?secret=JBSWY3": nil,
		"https://totp/a?secret=JBSWY3DP": nil,
		"JBSWY3DP1":                      nil,
		"otpauth://totp/a?secret=JBSWY3DP&period=0": nil,
	} {
		got, err := macro.ParseTOTP(text)
		if (err == nil) != (want != nil) || want != nil && !cmp.Equal(got, want) {
			t.Errorf("%q gives %+v, %v", text, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "JBSWY") {
			t.Errorf("the error holds the secret: %v", err)
		}
	}
}

func templates(t *testing.T, texts ...string) (all []*rule.Template) {
	for _, text := range texts {
		all = append(all, template(t, text))
	}
	return all
}

func TestStepsThatSendNothing(t *testing.T) {
	s := &script{t: t, answers: []string{okAnswer}}
	m := &macro.Macro{Name: "m", Steps: []macro.Step{
		{Exec: &macro.Exec{Command: templates(t, "otp", "--for={{USER}}"), Token: "OTP"}},
		{Prompt: &macro.Prompt{Text: template(t, "The code for {{USER}} after {{OTP}}"), Token: "SMS"}},
		{Prompt: &macro.Prompt{Text: template(t, "only told")}},
		step(t, "GET https://o/?a={{OTP}}&b={{SMS}}&c={{step_1.OTP}} HTTP/1.1\n"),
	}}
	if diff := cmp.Diff([]string{"USER"}, m.Names()); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	env := s.env(map[string]string{"USER": "alice"})
	var asked []macro.Question
	env.Exec = func(_ context.Context, command []string) (string, error) {
		return "\n 123 456 \r\n" + strings.Repeat("\n", len(command)), nil
	}
	env.Ask = func(_ context.Context, q macro.Question) (string, error) {
		asked = append(asked, q)
		return " 42\n", nil
	}
	result, err := m.Run(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	if want := "GET /?a=123%20456&b=42&c=123%20456 HTTP/1.1"; !strings.HasPrefix(s.sent[0], want) {
		t.Errorf("sent %q, want %q", s.sent[0], want)
	}
	if diff := cmp.Diff(map[string]string{"OTP": "123 456", "SMS": "42"}, result.Values); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	want := []macro.Question{
		{Identity: "alice", Macro: "m", Step: 2, Text: "The code for alice after 123 456", Answer: true, Timeout: macro.DefaultPromptTimeout},
		{Identity: "alice", Macro: "m", Step: 3, Text: "only told", Timeout: macro.DefaultPromptTimeout},
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	if n, asks := m.Asks(); n != 2 || !asks || m.Patience(nil) != macro.DefaultExecTimeout+2*macro.DefaultPromptTimeout {
		t.Errorf("step %d asks; patience %s", n, m.Patience(nil))
	}
}

func TestStepsThatSendNothingFail(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for _, c := range []struct {
		name   string
		output string
		err    error
		hangs  bool
		kind   macro.Kind
		says   string
	}{
		{"an error", "", errors.New("exit status 3"), false, macro.Failed, "macro m, step 1: no value: wanted a value from the command, got a failure: exit status 3"},
		{"silence", " \n", nil, false, macro.Failed, "got nothing"},
		{"too much", strings.Repeat("x", macro.MaxOutput+1), nil, false, macro.Failed, "got more than 64 KiB"},
		{"a hang", "", nil, true, macro.Failed, "got none within 1ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &macro.Macro{Name: "m", Steps: []macro.Step{{Exec: &macro.Exec{Command: templates(t, "x"), Token: "T", Timeout: time.Millisecond}}}}
			if !c.hangs {
				m.Steps[0].Exec.Timeout = time.Hour
			}
			env := (&script{t: t}).env(nil)
			env.Exec = func(ctx context.Context, _ []string) (string, error) {
				if c.hangs {
					return "", hang(ctx)
				}
				return c.output, c.err
			}
			_, err := m.Run(t.Context(), env)
			var e *macro.StepError
			if !errors.As(err, &e) || e.Kind != c.kind || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Run gave %v, want %q", err, c.says)
			}
		})
	}
	m := &macro.Macro{Name: "m", Steps: []macro.Step{{Prompt: &macro.Prompt{Text: template(t, "?"), Token: "T", Timeout: time.Millisecond}}}}
	for want, ask := range map[string]func(context.Context, macro.Question) (string, error){
		"there is nobody to ask": nil,
		"got none within 1ms":    func(ctx context.Context, _ macro.Question) (string, error) { return "", hang(ctx) },
		"got an empty one":       func(context.Context, macro.Question) (string, error) { return " ", nil },
	} {
		env := (&script{t: t}).env(nil)
		env.Ask = ask
		m.Steps[0].Prompt.Timeout = time.Millisecond
		if want == "got an empty one" {
			m.Steps[0].Prompt.Timeout = time.Hour
		}
		_, err := m.Run(t.Context(), env)
		var e *macro.StepError
		if !errors.As(err, &e) || e.Kind != macro.Unanswered || !strings.Contains(err.Error(), want) {
			t.Errorf("Run gave %v, want %q", err, want)
		}
	}
}

// Each step with {{totp}} draws a code of its own; how far ahead the origin's
// clock is comes from the Date of its answers.
func TestCodesOfARun(t *testing.T) {
	s := &script{t: t, answers: []string{"HTTP/1.1 200 OK\nDate: Sat, 06 Jun 2026 12:00:42 GMT\n\n", okAnswer, okAnswer}}
	m := &macro.Macro{Name: "m", Steps: []macro.Step{
		step(t, "GET https://o/?{{totp}}&{{totp}} HTTP/1.1\n"), step(t, "GET https://o/?{{totp}} HTTP/1.1\n"), step(t, "GET https://o/ HTTP/1.1\n"),
	}}
	env := s.env(nil)
	var ahead []string
	env.Code = func(_ context.Context, d *time.Duration) (string, error) {
		if d == nil {
			ahead = append(ahead, "unknown")
		} else {
			ahead = append(ahead, d.String())
		}
		return fmt.Sprint(len(ahead)), nil
	}
	if _, err := m.Run(t.Context(), env); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"unknown", "42s"}, ahead); diff != "" {
		t.Errorf("the clock is ahead (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(s.sent[0], "GET /?1&1 ") || !strings.HasPrefix(s.sent[1], "GET /?2 ") {
		t.Errorf("sent %q", s.sent)
	}
	env.Code = nil
	if _, err := m.Run(t.Context(), env); err == nil || !strings.Contains(err.Error(), "no value for totp") {
		t.Errorf("without a secret: %v", err)
	}
}
