package session

import (
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
)

// mayBeginAnew reports whether a login that was refused is begun anew, once and
// without the cookies that are there: what those belong to may be what was
// refused, such as a dead session, or one that lives and needs no login. Nobody's
// password may be tried a second time by that, so it is where
//
//   - what earlier steps had begun is gone, and the origin says so (diedMeanwhile);
//   - no credentials had been sent yet;
//   - or these credentials have logged in before, and a later step of the login
//     was refused otherwise than by a 401. That counts as a failed login.
func (s *session) mayBeginAnew(m *macro.Macro, step *macro.StepError) bool {
	switch {
	case step.Kind != macro.Rejected:
		return false
	case diedMeanwhile(step), s.sentNothing(m, step.Step):
		return true
	case step.Step < 2 || step.Status == 401 || !s.kin.proven.Load():
		return false
	}
	_, locked, err := s.engine.guard.failed(s.key)
	if err != nil {
		s.engine.warn("the count of failed logins could not be saved: %v", err)
	}
	return !locked
}

// diedMeanwhile reports whether a step was refused because what the steps before
// it had begun is gone, which says nothing about the credentials: 408 (Tomcat's
// form login), 419 (Laravel's "page expired"), 440 (IIS's login time-out).
func diedMeanwhile(step *macro.StepError) bool {
	return step.Step > 1 && (step.Status == 408 || step.Status == 419 || step.Status == 440)
}

// sentNothing reports whether the first steps of a macro, as many as are given,
// only read, are not the whole of it, and carry no variable of the configuration but addresses.
func (s *session) sentNothing(m *macro.Macro, steps int) bool {
	if steps < 1 || steps >= len(m.Steps) { // the last one is what logs in
		return false
	}
	for i := range m.Steps[:steps] {
		step := &m.Steps[i]
		if step.Request == nil || step.Auth != nil || !step.Request.Reads() {
			return false
		}
		if slices.ContainsFunc(step.Request.Names(), func(name string) bool {
			v, ok := s.identity.named(name)
			return ok && !strings.HasPrefix(v, "http://") && !strings.HasPrefix(v, "https://")
		}) {
			return false
		}
	}
	return true
}

// takeJar takes the cookies of a login that was begun anew.
func (s *session) takeJar(j *jar.Jar) {
	e := s.engine
	for _, c := range j.All() {
		c.Order = e.next()
		if _, err := s.identity.jar.Put(c, e.now()); err != nil {
			e.warn("%s: a cookie of the login was not taken: %v", s.title(), err)
		}
	}
}
