package jar

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// snapshot is a whole jar, its memory of removed cookies included.
type snapshot struct {
	Format     string            `json:"format"`
	Version    int               `json:"version"`
	JarVersion uint64            `json:"jar_version"`
	LastID     uint64            `json:"last_id"`
	LastOrder  uint64            `json:"last_order"`
	Floor      uint64            `json:"ignore_before,omitempty"`
	Floors     map[string]uint64 `json:"ignore_before_of,omitempty"` // by host
	Cookies    []snapshotCookie  `json:"cookies"`
	Removed    []snapshotGrave   `json:"removed,omitempty"`
}

type snapshotCookie struct {
	ID uint64 `json:"id"`
	jsonCookie
	Updated    time.Time `json:"updated"`
	LastAccess time.Time `json:"last_access"`
	Order      uint64    `json:"order"`
	Version    uint64    `json:"version"`
}

type snapshotGrave struct {
	Name     text   `json:"name"`
	Domain   text   `json:"domain"`
	HostOnly bool   `json:"host_only"`
	Path     text   `json:"path"`
	Order    uint64 `json:"order"`
	Value    text   `json:"value"`
}

// Snapshot writes the whole jar for [Jar.Restore]: a JSON document that is
// none of a person's business, and holds secrets in the clear. version is
// [Jar.Version] of that very moment.
func (j *Jar) Snapshot() (data []byte, version uint64, err error) {
	j.mu.Lock()
	s := snapshot{
		Format: snapshotFormat, Version: snapshotVersion,
		JarVersion: j.version, LastID: j.lastID, LastOrder: j.lastOrder, Floor: j.floor, Floors: maps.Clone(j.floors),
	}
	for _, c := range j.all() {
		s.Cookies = append(s.Cookies, snapshotCookie{
			ID: c.ID, jsonCookie: toJSON(&c), Updated: c.Updated, LastAccess: c.LastAccess, Order: c.Order, Version: c.Version,
		})
	}
	for k, g := range j.graves {
		s.Removed = append(s.Removed, snapshotGrave{
			Name: text(k.name), Domain: text(k.domain), HostOnly: k.hostOnly, Path: text(k.path), Order: g.order, Value: text(g.value),
		})
	}
	j.mu.Unlock()
	slices.SortFunc(s.Removed, func(a, b snapshotGrave) int {
		return cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Name, b.Name))
	})
	data, err = json.Marshal(s)
	return data, s.JarVersion, err
}

// Restore replaces the jar's content by a snapshot's. A cookie that the
// present rules do not allow any more (its domain has become a public suffix,
// §5.8.3) is left out and reported as Refused. After an error the jar is as it
// was.
func (j *Jar) Restore(data []byte) ([]Change, error) {
	var s snapshot
	if err := unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("jar: %w", err)
	}
	if s.Format != snapshotFormat || s.Version != snapshotVersion {
		return nil, fmt.Errorf("jar: format %q version %d is unknown; want %q version %d",
			s.Format, s.Version, snapshotFormat, snapshotVersion)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.empty()
	j.version, j.lastID, j.lastOrder, j.floor = s.JarVersion, s.LastID, s.LastOrder, s.Floor
	for host, order := range s.Floors {
		if len(j.floors) < maxFloors {
			j.floors[host] = order
		}
	}
	var refused []Change
	for i := range s.Cookies {
		sc := &s.Cookies[i]
		c := sc.cookie()
		c.ID, c.Updated, c.LastAccess, c.Order, c.Version = sc.ID, sc.Updated, sc.LastAccess, sc.Order, sc.Version
		if err := normalize(&c); err != nil {
			refused = append(refused, Change{Kind: Refused, Cookie: c, Reason: err.Error()})
			continue
		}
		if j.lookup(c.key()) != nil || j.find(c.ID) != nil || c.ID > s.LastID {
			refused = append(refused, Change{Kind: Refused, Cookie: c, Reason: "its number or its place is taken"})
			continue
		}
		j.insert(&c)
	}
	for _, g := range s.Removed {
		k := key{domain: string(g.Domain), path: string(g.Path), name: string(g.Name), hostOnly: g.HostOnly}
		j.graves[k] = grave{order: g.Order, value: string(g.Value)}
	}
	return refused, nil
}
