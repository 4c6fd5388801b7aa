package network

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

func TestResolvConf(t *testing.T) {
	const none = "# box: the host names no name server that a container can reach\n"
	for _, c := range []struct {
		name, first, second, want string
	}{
		{"plain", "search a.test\nnameserver 192.0.2.53\n", "", "search a.test\nnameserver 192.0.2.53\n"},
		{"stub", "nameserver 127.0.0.53\noptions edns0\n", "nameserver 192.0.2.1\n", "nameserver 192.0.2.1\n"},
		{"mixed", "nameserver 127.0.0.1\nnameserver 8.8.4.4", "", "nameserver 8.8.4.4\n"},
		{"IPv6 only", "nameserver fe80::1%eth0\nnameserver 2001:db8::1\n", "", none},
		{"stub alone", "search a.test\nnameserver 127.0.0.53\n", "", "search a.test\n" + none},
		{"nothing", "", "", none},
		{"commented", "#nameserver 127.0.0.1\n nameserver 192.0.2.2\n", "", "#nameserver 127.0.0.1\n nameserver 192.0.2.2\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			paths := []string{filepath.Join(dir, "missing"), filepath.Join(dir, "second")}
			if c.first != "" {
				paths[0] = filepath.Join(dir, "first")
				write(t, paths[0], c.first)
			}
			if c.second != "" {
				write(t, paths[1], c.second)
			}
			got, err := resolvConf(paths)
			if err != nil || string(got) != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestHosts(t *testing.T) {
	got := string(Hosts("web.example.test", netip.MustParseAddr("10.210.0.2"),
		[]HostEntry{{"db", netip.MustParseAddr("10.210.0.3")}}))
	const want = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n" +
		"10.210.0.3\tdb\n10.210.0.2\tweb.example.test web\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if alone := string(Hosts("web", netip.Addr{}, nil)); alone != want[:len(alone)] {
		t.Errorf("without an address:\n%s", alone)
	}
}
