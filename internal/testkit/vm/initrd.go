package vm

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// archive is an initial file system in the making: a cpio archive in the "newc"
// form (Documentation/driver-api/early-userspace/buffer-format.rst of the
// kernel), not compressed, because unpacking would cost the emulated processor more than
// reading does.
type archive struct {
	bytes.Buffer
	inodes int
}

// add appends one entry. A directory has no data.
func (a *archive) add(name string, mode uint32, data []byte) {
	a.inodes++
	a.header(name, a.inodes, mode, len(data))
	a.Write(data)
	a.pad()
}

// close appends the entry that ends the archive.
func (a *archive) close() {
	a.header("TRAILER!!!", 0, 0, 0)
}

// header writes the fixed fields (each eight hexadecimal digits: inode, mode, uid,
// gid, links, time, size, four device numbers, length of the name, checksum) and the name.
func (a *archive) header(name string, inode int, mode uint32, size int) {
	fmt.Fprintf(a, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0, name)
	a.pad()
}

// pad fills up to a multiple of four, as the form wants it after names and data.
func (a *archive) pad() {
	for a.Len()%4 != 0 {
		a.WriteByte(0)
	}
}

// File modes of the entries (inode(7)).
const (
	directory   = 0o040755
	regular     = 0o100644
	executable  = 0o100755
	moduleDir   = "modules"
	initProgram = "init"
)

// initrd is the guest's initial file system: the program as /init, the job, and
// the modules, which it adds to the job.
func initrd(program string, job Job, modules []string) ([]byte, error) {
	var a archive
	for _, dir := range []string{moduleDir, "dev", "proc", "sys", "disk", "lower", "new"} {
		a.add(dir, directory, nil)
	}
	for _, file := range modules {
		job.Modules = append(job.Modules, path.Join("/", moduleDir, filepath.Base(file)))
		if err := a.addFile(path.Join(moduleDir, filepath.Base(file)), file, regular); err != nil {
			return nil, err
		}
	}
	if err := a.addFile(initProgram, program, executable); err != nil {
		return nil, err
	}
	encoded, err := job.encode()
	if err != nil {
		return nil, err
	}
	a.add(JobFile[1:], regular, encoded)
	a.close()
	return a.Bytes(), nil
}

// addFile appends a file of the host.
func (a *archive) addFile(name, file string, mode uint32) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return &fs.PathError{Op: "pack", Path: file, Err: err}
	}
	a.add(name, mode, data)
	return nil
}
