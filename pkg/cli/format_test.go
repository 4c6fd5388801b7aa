package cli

import (
	"strings"
	"testing"
)

func TestRows(t *testing.T) {
	all := []psRow{
		{ID: "0123456789ab", Names: "web", Image: "nginx", labels: map[string]string{"tier": "front"}},
		{ID: "ba9876543210", Names: "db", Image: "<none>"},
	}
	tests := []struct{ format, want string }{
		{"{{.ID}} {{.Names}}", "0123456789ab web\nba9876543210 db\n"},
		{`{{.ID}}\t{{.Names}}`, "0123456789ab\tweb\nba9876543210\tdb\n"},
		{`{{.Label "tier"}}`, "front\n\n"},
		{"{{upper .Names}} {{title .Image}}", "WEB Nginx\nDB <none>\n"},
		{"{{json .Image}}", "\"nginx\"\n\"<none>\"\n"},
		{`{{join (split .Names "e") "-"}} {{truncate .Names 2}}`, "w-b we\ndb db\n"},
		{"table {{.ID}}\t{{.Names}}", "CONTAINER ID   NAMES\n0123456789ab   web\nba9876543210   db\n"},
	}
	for _, tt := range tests {
		t.Run(tt.format, func(t *testing.T) {
			var b strings.Builder
			if err := rows(&b, tt.format, psHeaders, all); err != nil {
				t.Fatal(err)
			}
			if b.String() != tt.want {
				t.Errorf("got %q, want %q", b.String(), tt.want)
			}
		})
	}
}

func TestRowsAsJSON(t *testing.T) {
	var b strings.Builder
	if err := rows(&b, "json", psHeaders, []psRow{{ID: "0123456789ab", Command: `"a < b"`}}); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); !strings.HasPrefix(got, `{"ID":"0123456789ab"`) || !strings.Contains(got, "a < b") || strings.Count(got, "\n") != 1 {
		t.Errorf("got %s", got)
	}
}

func TestBadFormats(t *testing.T) {
	for _, format := range []string{"{{.ID", "{{.NoSuch}}", "{{nosuch .ID}}"} {
		var b strings.Builder
		err := rows(&b, format, psHeaders, []psRow{{}})
		if err == nil || strings.Contains(err.Error(), "template:") {
			t.Errorf("%s: got %v, want an error for users", format, err)
		}
	}
}
