package cli

import (
	"strings"
	"testing"
	"time"

	"box/pkg/record"
)

func TestSince(t *testing.T) {
	tests := map[time.Duration]string{
		0:                    "Less than a second",
		time.Second:          "1 second",
		59 * time.Second:     "59 seconds",
		61 * time.Second:     "About a minute",
		45 * time.Minute:     "45 minutes",
		50 * time.Minute:     "About an hour",
		3 * time.Hour:        "3 hours",
		47 * time.Hour:       "47 hours",
		72 * time.Hour:       "3 days",
		20 * 24 * time.Hour:  "2 weeks",
		90 * 24 * time.Hour:  "3 months",
		800 * 24 * time.Hour: "2 years",
	}
	for d, want := range tests {
		if got := since(d); got != want {
			t.Errorf("since(%v) = %q, want %q", d, got, want)
		}
	}
	if got := ago(time.Now(), time.Time{}); got != "" {
		t.Errorf("ago of no time = %q", got)
	}
}

func TestSize(t *testing.T) {
	tests := map[int64]string{
		0: "0B", 999: "999B", 1000: "1kB", 1234: "1.23kB", 999_949: "1MB", 47_000_000: "47MB", 1_240_000_000: "1.24GB",
	}
	for n, want := range tests {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestShortID(t *testing.T) {
	tests := map[string]string{
		"sha256:0123456789abcdef0123": "0123456789ab",
		"0123456789abcdef":            "0123456789ab",
		"short":                       "short",
	}
	for id, want := range tests {
		if got := shortID(id); got != want {
			t.Errorf("shortID(%q) = %q, want %q", id, got, want)
		}
	}
}

// TestTableCells: what comes from images and users cannot break the layout or
// steer the terminal.
func TestTableCells(t *testing.T) {
	var b strings.Builder
	tab := newTable(&b, "A", "B")
	tab.row("x\ny", "\x1b[31mred")
	tab.row("tab\there", "b")
	if err := tab.flush(); err != nil {
		t.Fatal(err)
	}
	const want = "A          B\nx y        \\x1b[31mred\ntab here   b\n"
	if b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestStatus(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := []struct {
		state record.State
		want  string
	}{
		{record.State{Status: record.Created}, "Created"},
		{record.State{Status: record.Running, StartedAt: now.Add(-3 * time.Minute)}, "Up 3 minutes"},
		{record.State{Status: record.Exited, ExitCode: 137, FinishedAt: now.Add(-5 * time.Second)}, "Exited (137) 5 seconds ago"},
		{record.State{Status: record.Removing}, "Removal In Progress"},
		{record.State{Status: record.Dead}, "Dead"},
	}
	for _, tt := range tests {
		if got := status(tt.state, now); got != tt.want {
			t.Errorf("status(%s) = %q, want %q", tt.state.Status, got, tt.want)
		}
	}
}

func TestPorts(t *testing.T) {
	port := func(ip string, host, container uint16, proto string) record.Port {
		return record.Port{HostIP: ip, HostPort: host, ContainerPort: container, Proto: proto}
	}
	tests := []struct {
		name    string
		ports   []record.Port
		exposed []string
		want    string
	}{
		{"none", nil, nil, ""},
		{"one", []record.Port{port("", 8080, 80, "tcp")}, nil, "0.0.0.0:8080->80/tcp"},
		{"address", []record.Port{port("127.0.0.1", 53, 53, "udp")}, nil, "127.0.0.1:53->53/udp"},
		{"ipv6", []record.Port{port("::1", 53, 53, "udp")}, nil, "[::1]:53->53/udp"},
		{"range", []record.Port{port("", 8001, 81, "tcp"), port("", 8000, 80, "tcp"), port("", 8002, 82, "tcp")}, nil, "0.0.0.0:8000-8002->80-82/tcp"},
		{"gap", []record.Port{port("", 8000, 80, "tcp"), port("", 8005, 81, "tcp")}, nil, "0.0.0.0:8000->80/tcp, 0.0.0.0:8005->81/tcp"},
		{"exposed", []record.Port{port("", 8080, 80, "tcp")}, []string{"443/tcp", "80/tcp"}, "0.0.0.0:8080->80/tcp, 443/tcp"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &record.Record{
				State: record.State{Status: record.Running}, Network: record.Network{Ports: tt.ports},
				Config: record.Config{ExposedPorts: tt.exposed},
			}
			if got := ports(r); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFilters(t *testing.T) {
	r := &record.Record{
		ID: strings.Repeat("ab", 32), Name: "web", State: record.State{Status: record.Exited, ExitCode: 3},
		Image: record.Image{Name: "nginx"}, Config: record.Config{Labels: map[string]string{"tier": "front"}},
	}
	tests := []struct {
		filters string
		want    bool
	}{
		{"", true},
		{"name=we", true},
		{"name=x", false},
		{"id=abab", true},
		{"status=exited", true},
		{"status=running", false},
		{"status=running status=exited", true},
		{"name=web status=running", false},
		{"exited=3", true},
		{"exited=0", false},
		{"ancestor=nginx", true},
		{"label=tier", true},
		{"label=tier=back", false},
		{"label=tier=front", true},
	}
	for _, tt := range tests {
		match, _, err := parseFilters(strings.Fields(tt.filters))
		if err != nil {
			t.Fatal(err)
		}
		if got := match(r); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.filters, got, tt.want)
		}
	}
	for _, bad := range []string{"colour=red", "name"} {
		if _, _, err := parseFilters([]string{bad}); err == nil {
			t.Errorf("filter %q was accepted", bad)
		}
	}
}
