package holdfast

// Spoil makes the session of an identity one that no origin knows, "" for the
// one that speaks where nobody is named: see session.Engine.Spoil.
func (h *Holdfast) Spoil(identity string, all bool) (values int, err error) {
	if identity == "" {
		identity = h.Identity()
	}
	return h.Engine().Spoil(identity, all)
}
