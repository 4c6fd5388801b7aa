package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// The policy compiles, and is given to the kernel whole before it is enforced.
func TestPolicyIsLoaded(t *testing.T) {
	if _, err := exec.LookPath("checkpolicy"); err != nil {
		t.Skip("needs checkpolicy")
	}
	dir, config := t.TempDir(), filepath.Join(t.TempDir(), "selinux", "config")
	if err := (job{Work: t.TempDir()}).loadPolicy(dir, config); err != nil {
		t.Fatal(err)
	}
	// The kernel's magic number of a policy in its binary form.
	if policy, err := os.ReadFile(filepath.Join(dir, "load")); err != nil || !bytes.HasPrefix(policy, []byte{0x8c, 0xff, 0x7c, 0xf9}) {
		t.Errorf("the policy: %.8q, %v", policy, err)
	}
	for path, want := range map[string]string{filepath.Join(dir, "enforce"): "1", config: "SELINUX=enforcing\n"} {
		if text, err := os.ReadFile(path); string(text) != want {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
}

// A type or category that a test of the suite names, and the policy does not have, would fail
// with both runtimes alike.
func TestPolicyKnowsTheLabelsOfTheSuite(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(suite{dir: cacheDir()}.batsDir(), "*.bats"))
	if err != nil || len(paths) == 0 {
		t.Skip("runc's suite is not on this machine")
	}
	words := regexp.MustCompile(`system_u:\w+:(\w+):s0:(c\d+),(c\d+)|chcon .*-t (\w+)`)
	found := 0
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range words.FindAllStringSubmatch(string(text), -1) {
			for _, word := range match[1:] {
				found++
				if word != "" && !declares(selinuxPolicy, word) {
					t.Errorf("%s: %s is not in the policy", filepath.Base(path), word)
				}
			}
		}
	}
	if found == 0 {
		t.Error("the suite names no label")
	}
}

func declares(policy, word string) bool {
	expr := regexp.MustCompile(`^(type|category) ` + word + `\b`)
	for lines := bufio.NewScanner(bytes.NewBufferString(policy)); lines.Scan(); {
		if expr.MatchString(lines.Text()) {
			return true
		}
	}
	return false
}
