package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

//go:embed selinux.conf
var selinuxPolicy string

// selinuxDir is where the kernel shows SELinux, if it was told to have it; only then does
// the directory exist.
const selinuxDir = "/sys/fs/selinux"

// setUpSELinux gives a throw-away machine whose kernel has SELinux, but no policy, the one
// that the tests of labels need, enforced. The file in /etc is what libselinux asks
// for beside the kernel.
func (j job) setUpSELinux() error {
	_, err := os.Stat(selinuxDir)
	if !untouched(j.View) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(selinuxDir, "load")); err != nil {
		if err := unix.Mount("selinuxfs", selinuxDir, "selinuxfs", 0, ""); err != nil {
			return fmt.Errorf("mount selinuxfs: %w", err)
		}
	}
	label, err := os.ReadFile("/proc/self/attr/current")
	if err != nil || strings.TrimRight(string(label), "\x00\n") != "kernel" { // "kernel": without a policy
		return err
	}
	return j.loadPolicy(selinuxDir, "/etc/selinux/config")
}

// loadPolicy compiles the policy and hands it to the kernel by the files in dir.
func (j job) loadPolicy(dir, config string) error {
	source, compiled := filepath.Join(j.Work, "selinux.conf"), filepath.Join(j.Work, "selinux")
	if err := os.WriteFile(source, []byte(selinuxPolicy), 0o644); err != nil {
		return err
	}
	// Version 33 is that of Linux 5.13; a newer checkpolicy writes what older kernels refuse.
	if out, err := exec.Command("checkpolicy", "-M", "-U", "allow", "-c", "33", "-o", compiled, source).CombinedOutput(); err != nil {
		return fmt.Errorf("compile the SELinux policy: %w: %s", err, out)
	}
	policy, err := os.ReadFile(compiled)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(config), 0o755); err != nil {
		return err
	}
	for _, f := range []struct{ path, text string }{
		{filepath.Join(dir, "load"), string(policy)},
		{filepath.Join(dir, "enforce"), "1"},
		{config, "SELINUX=enforcing\n"},
	} {
		if err := os.WriteFile(f.path, []byte(f.text), 0o644); err != nil {
			return fmt.Errorf("load the SELinux policy: %w", err)
		}
	}
	return nil
}
