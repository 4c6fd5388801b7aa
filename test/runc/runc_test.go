package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseTAP(t *testing.T) {
	const tap = `1..4
ok 1 runc kill
not ok 2 runc exec # timeout after 90s
# (in test file x.bats, line 3)
#   failed
ok 3 runc list # skip (test requires root)
# stray
ok 4 a # b
ok 5 - a # SKIP no such thing
ok 6 # SKIP nothing here
`
	got, err := parseTAP(strings.NewReader(tap))
	if err != nil {
		t.Fatal(err)
	}
	want := []result{
		{Name: "runc kill", Outcome: passed},
		{Name: "runc exec", Outcome: failed, Why: "timeout after 90s", Output: []string{"(in test file x.bats, line 3)", "  failed"}},
		{Name: "runc list", Outcome: skipped, Why: "test requires root"},
		{Name: "a", Outcome: passed, Why: "b"},
		{Name: "a (2)", Outcome: skipped, Why: "no such thing"},
		{Outcome: skipped, Why: "nothing here"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestTestsThatWereNotReachedAreMissing(t *testing.T) {
	const bats = "#!/usr/bin/env bats\n@test \"one\" {\n}\n@test 'two $x' {\n}\n@test \" three \\\"q\\\"\" {\n}\n"
	names, err := declared(strings.NewReader(bats))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"one", "two $x", `three "q"`}; !reflect.DeepEqual(names, want) {
		t.Fatalf("names %q, want %q", names, want)
	}
	all := complete([]result{{Name: "one", Outcome: passed}}, names)
	if len(all) != 3 || all[1].Outcome != missing || all[0].Outcome != passed {
		t.Errorf("completed: %+v", all)
	}
	if _, err := declared(strings.NewReader("@test unquoted {\n")); err == nil {
		t.Error("an unquoted name was understood")
	}
}

func TestJudge(t *testing.T) {
	known := []difference{
		{view: "*", file: "debug", name: "listed*", why: "words"},
		{view: "v2", file: "debug", name: "v2 only", why: "words"},
	}
	cases := []struct {
		name       string
		base, ours outcome
		wrong      string
		class      string
	}{
		{"both", passed, passed, "", "same"},
		{"ours fails", passed, failed, "FAIL", "wrong"},
		{"ours skips", passed, skipped, "skipped: ", "wrong"},
		{"ours never reached", passed, missing, "-", "wrong"},
		{"runc fails", failed, failed, "", "not here"},
		{"runc fails alone", failed, passed, "", "better"},
		{"runc skips", skipped, skipped, "", "not here"},
		{"listed fails", passed, failed, "", "known"},
		{"listed passes", passed, passed, "listed as a known difference, but passes", "wrong"},
		{"v2 only", passed, failed, "FAIL", "wrong"}, // this is another view
	}
	for _, c := range cases {
		got := judge("host", "debug", []result{{Name: c.name, Outcome: c.base}}, []result{{Name: c.name, Outcome: c.ours}}, known)
		if len(got) != 1 || got[0].wrong != strings.TrimSpace(c.wrong) && got[0].wrong != c.wrong || class(got[0]) != c.class {
			t.Errorf("%s: wrong %q, class %q; want %q, %q", c.name, got[0].wrong, class(got[0]), c.wrong, c.class)
		}
	}
}

func TestKnownListIsRead(t *testing.T) {
	if _, err := readKnown("known.txt"); err != nil {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "k")
	if err := os.WriteFile(file, []byte("# c\n\n* | kill | a | b | c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readKnown(file)
	if want := []difference{{view: "*", file: "kill", name: "a", why: "b | c"}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := os.WriteFile(file, []byte("kill only\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readKnown(file); err == nil {
		t.Error("a line without fields was read")
	}
}

func TestHierarchies(t *testing.T) {
	const mountinfo = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime shared:3 - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
42 31 0:38 / /elsewhere rw,relatime - cgroup2 cgroup2 rw
`
	const cgroup = "2:cpu,cpuacct:/own/group\n1:name=systemd:/\n0::/v2\n"
	got, err := hierarchies(strings.NewReader(mountinfo), cgroup, "job")
	want := []hierarchy{
		{Mount: "/sys/fs/cgroup/cpu", Options: "cpu,cpuacct", Own: "/sys/fs/cgroup/cpu/own/group/job"},
		{Mount: "/sys/fs/cgroup/systemd", Options: "name=systemd", Own: "/sys/fs/cgroup/systemd/job"},
		{Mount: "/sys/fs/cgroup/unified", Options: "", Own: "/sys/fs/cgroup/unified/v2/job"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := hierarchies(strings.NewReader(""), cgroup, "job"); err == nil {
		t.Error("no hierarchy was enough")
	}
}

func TestStoreKeepsOutcomes(t *testing.T) {
	s := store{dir: t.TempDir()}
	key := storeKey{view: "v2", runtime: "runc", file: "kill"}
	if _, err := s.read(key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read of nothing: %v", err)
	}
	want := []result{{Name: "a", Outcome: failed, Output: []string{"x"}}}
	if err := s.write(key, want); err != nil {
		t.Fatal(err)
	}
	if got, err := s.read(key); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestTableShowsWhatDiffers(t *testing.T) {
	all := judge("v2", "kill",
		[]result{{Name: "fine", Outcome: passed}, {Name: "a|b", Outcome: passed}},
		[]result{{Name: "fine", Outcome: passed}, {Name: "a|b", Outcome: failed}}, nil)
	got := table(all)
	if !strings.Contains(got, `| v2 | kill | a\|b | pass | FAIL | **FAIL** |`) || strings.Contains(got, "fine") {
		t.Error(got)
	}
	if !strings.HasSuffix(got, "2 tests: 1 as runc, 1 wrong\n") {
		t.Error(got)
	}
}

func TestOnlyTheHangingTestIsEnded(t *testing.T) {
	all := []process{
		{1, 0, "systemd"},
		{2, 1, "a daemon"},
		{3, 1, "exe inside"},
		{5, 3, "bash /usr/libexec/bats-core/bats --tap x.bats"},
		{6, 5, "bash /usr/libexec/bats-core/bats-exec-suite x.bats"},
		{7, 5, "bash /usr/libexec/bats-core/bats-format-cat"},
		{8, 7, "cat"},
		{9, 6, "bash /usr/libexec/bats-core/bats-exec-file x.bats"},
		{10, 9, "bash /usr/libexec/bats-core/bats-exec-test x.bats 3"},
		{11, 10, "sleep 1000"},
		{12, 3, "recvtty"},
		{13, 12, "below an orphan"},
		{14, 99, "parent is gone: perhaps not ours"},
	}
	if got, want := testProcesses(all, 3, 5), []int{10, 11, 12, 13}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestSilenceIsNoticedAgainAndAgain(t *testing.T) {
	ends := make(chan struct{})
	o := newOutput(time.Millisecond, func() { ends <- struct{}{} })
	defer o.timer.Stop()
	for range 3 {
		<-ends
	}
}
