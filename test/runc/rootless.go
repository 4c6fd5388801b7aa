package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The user that runs the tests without root, in the job's own /etc/passwd, and the
// ids that it may map: the figures of the suite's rootless.sh.
const (
	rootlessName  = "rootless"
	rootlessID    = 4242
	subIDs        = 65536
	firstSubUID   = 100000
	firstSubGID   = 200000
	auxiliaryUID  = 1024 // in a container, of a directory that one test needs
	containerUser = 1000 // the first of the sub-ids in a container
)

// featureNames are what a run without root can have: newuidmap, and a control
// group that it may write to.
var featureNames = []string{"none", "idmap", "cgroup", "idmap+cgroup"}

func (j job) has(feature string) bool {
	return slices.Contains(strings.Split(j.Features, "+"), feature)
}

// setUpRootless makes the user and what the features give, in the job's namespaces
// only: the files of /etc are mounted over.
func (j job) setUpRootless() error {
	files := map[string]string{"/etc/subuid": "", "/etc/subgid": ""}
	if j.View != viewSystemd { // there the whole machine knows him (startUserManager)
		maps.Copy(files, userLines(filepath.Join(j.Work, "home")))
	}
	if j.has("idmap") {
		files["/etc/subuid"] = fmt.Sprintf("%s:%d:%d\n", rootlessName, firstSubUID, subIDs)
		files["/etc/subgid"] = fmt.Sprintf("%s:%d:%d\n", rootlessName, firstSubGID, subIDs)
	}
	for path, line := range files {
		if err := j.addLine(path, line); err != nil {
			return err
		}
	}
	if !j.has("idmap") {
		for _, program := range []string{"/usr/bin/newuidmap", "/usr/bin/newgidmap"} {
			if err := unix.Mount("/dev/null", program, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("hide %s: %w", program, err)
			}
		}
	}
	for _, dir := range []string{"tmp", "home"} {
		if err := os.Chown(filepath.Join(j.Work, dir), rootlessID, rootlessID); err != nil {
			return err
		}
	}
	if err := j.makeAuxiliary(); err != nil {
		return err
	}
	if j.has("cgroup") {
		return delegate("/sys/fs/cgroup")
	}
	return nil
}

// addLine mounts a copy of a file with one more line over it.
func (j job) addLine(path, line string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	aside := filepath.Join(j.Work, filepath.Base(path))
	if err := os.WriteFile(aside, []byte(string(old)+line), 0o644); err != nil {
		return err
	}
	if err := unix.Mount(aside, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount over %s: %w", path, err)
	}
	return nil
}

func (j job) auxiliary() string { return filepath.Join(j.Work, "aux") }

func (j job) makeAuxiliary() error {
	if err := os.Mkdir(j.auxiliary(), 0o700); err != nil {
		return err
	}
	return os.Chown(j.auxiliary(), firstSubUID-containerUser+auxiliaryUID, -1)
}

// delegate lets the user make groups below one of each hierarchy, and move processes
// there, which takes the right to write to the common ancestor's cgroup.procs
// (Documentation/admin-guide/cgroup-v2.rst, "Delegation Containment").
func delegate(root string) error {
	tops := []string{root}
	if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
		if tops, err = filepath.Glob(filepath.Join(root, "*")); err != nil {
			return err
		}
	}
	for _, top := range tops {
		group := filepath.Join(top, "runc-cgroups-integration-test")
		if err := os.Mkdir(group, 0o775); err != nil {
			return fmt.Errorf("make control group: %w", err)
		}
		for _, path := range []string{
			group, filepath.Join(group, "cgroup.procs"), filepath.Join(group, "cgroup.subtree_control"), filepath.Join(group, "tasks"),
			filepath.Join(top, "cgroup.procs"), filepath.Join(group, "cpuset.cpus"), filepath.Join(group, "cpuset.mems"),
		} {
			if err := share(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// share gives the user's group what the owner may do; files that the hierarchy
// does not have are left out.
func share(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return nil // v1 and v2 have different files
	}
	if err := os.Chown(path, 0, rootlessID); err != nil {
		return err
	}
	return os.Chmod(path, info.Mode().Perm()|info.Mode().Perm()&0o700>>3)
}

// rootlessEnv is what the suite's helpers read.
func (j job) rootlessEnv() []string {
	env := []string{"ROOTLESS_FEATURES=", "USER=" + rootlessName}
	if j.Features != "none" {
		env[0] += j.Features + "+"
	}
	if j.View == viewSystemd {
		env = append(env, userManagerEnv()...)
	}
	if !j.has("idmap") {
		return env
	}
	return append(env,
		fmt.Sprintf("ROOTLESS_UIDMAP_START=%d", firstSubUID), fmt.Sprintf("ROOTLESS_UIDMAP_LENGTH=%d", subIDs),
		fmt.Sprintf("ROOTLESS_GIDMAP_START=%d", firstSubGID), fmt.Sprintf("ROOTLESS_GIDMAP_LENGTH=%d", subIDs),
		"ROOTLESS_AUX_DIR="+j.auxiliary(), fmt.Sprintf("ROOTLESS_AUX_UID=%d", auxiliaryUID))
}

// credentials are those of the job's command.
func (j job) credentials() *syscall.SysProcAttr {
	if j.Features == "" {
		return nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: rootlessID, Gid: rootlessID}}
}
