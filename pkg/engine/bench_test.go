package engine

import "testing"

// BenchmarkRun is `box run --rm busybox true` without the start of box itself.
func BenchmarkRun(b *testing.B) {
	for _, c := range []struct {
		name    string
		network string
		publish []string
	}{
		{"none", NetworkNone, nil},
		{"host", NetworkHost, nil},
		{"bridge", NetworkBridge, nil},
		{"port", NetworkBridge, []string{"80"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			f := newFixture(b)
			for b.Loop() {
				o := CreateOptions{Image: f.image, Cmd: []string{"true"}, Network: c.network, Publish: c.publish, AutoRemove: true}
				_, s, err := f.Run(b.Context(), o, Stdio{})
				if err != nil {
					b.Fatal(err)
				}
				if code, err := s.Wait(b.Context()); code != 0 || err != nil {
					b.Fatal(code, err)
				}
			}
		})
	}
}

// BenchmarkCreate is the part of a run that is done in box's own process.
func BenchmarkCreate(b *testing.B) {
	f := newFixture(b)
	for b.Loop() {
		o := CreateOptions{Image: f.image, Cmd: []string{"true"}, Network: NetworkNone, AutoRemove: true}
		r, err := f.Create(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := f.Remove(b.Context(), r.ID, RemoveOptions{}); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
