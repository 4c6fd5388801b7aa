package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
)

func TestFrames(t *testing.T) {
	var b bytes.Buffer
	long := bytes.Repeat([]byte("x"), maxFrame+7)
	w := NewFrameWriter(&b)
	for _, f := range []Frame{{Stdin, nil}, {Stdout, long}, {Status, []byte("137")}} {
		if err := w.Write(f.Kind, f.Data); err != nil {
			t.Fatal(err)
		}
	}
	r := iotest.OneByteReader(&b)
	want := []Frame{{Stdin, []byte{}}, {Stdout, long[:maxFrame]}, {Stdout, long[maxFrame:]}, {Status, []byte("137")}}
	for _, w := range want {
		if f, err := ReadFrame(r); err != nil || f.Kind != w.Kind || !bytes.Equal(f.Data, w.Data) {
			t.Errorf("frame %q of %d bytes, %v; want %q of %d", f.Kind, len(f.Data), err, w.Kind, len(w.Data))
		}
	}
	if _, err := ReadFrame(r); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestReadFrameRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"cut head": "o\x00\x00", "cut data": "o\x00\x00\x00\x05abc", "huge": "o\xff\xff\xff\xff",
	} {
		if f, err := ReadFrame(strings.NewReader(text)); err == nil || err == io.EOF {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
}

func TestCopyCarriesErrors(t *testing.T) {
	if err := NewFrameWriter(io.Discard).Copy(Stdin, iotest.ErrReader(io.ErrNoProgress)); err != io.ErrNoProgress {
		t.Errorf("got %v", err)
	}
}

func TestLoadOrder(t *testing.T) {
	table := "kernel/fs/fuse/virtiofs.ko: kernel/v/virtio.ko kernel/v/virtio_ring.ko kernel/fs/fuse/fuse.ko\n" +
		"kernel/b/virtio_blk.ko: kernel/v/virtio.ko kernel/v/virtio_ring.ko\nkernel/fs/overlay.ko:\n"
	got, err := loadOrder(table, []string{"virtio_blk", "virtiofs", "overlay"})
	want := []string{
		"kernel/v/virtio_ring.ko", "kernel/v/virtio.ko", "kernel/b/virtio_blk.ko", "kernel/fs/fuse/fuse.ko",
		"kernel/fs/fuse/virtiofs.ko", "kernel/fs/overlay.ko",
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := loadOrder(table, []string{"nosuch"}); err == nil {
		t.Error("a module that is not there was found")
	}
}

// entries reads a cpio archive back: names and data.
func entries(t *testing.T, raw []byte) map[string]string {
	t.Helper()
	field := func(i int) int {
		n, err := strconv.ParseInt(string(raw[6+8*i:14+8*i]), 16, 32)
		if err != nil || string(raw[:6]) != "070701" {
			t.Fatalf("header %q: %v", raw[:110], err)
		}
		return int(n)
	}
	even := func(n int) int { return (n + 3) &^ 3 }
	found := map[string]string{}
	for {
		size, length := field(6), field(11)
		name := string(raw[110 : 110+length-1])
		if name == "TRAILER!!!" {
			return found
		}
		raw = raw[even(110+length):]
		found[name] = string(raw[:size])
		raw = raw[even(size):]
	}
}

func TestInitrd(t *testing.T) {
	dir := t.TempDir()
	module := filepath.Join(dir, "a.ko")
	for name, data := range map[string]string{module: "module", filepath.Join(dir, "program"): "ELF"} {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := initrd(filepath.Join(dir, "program"), Job{Args: []string{"true"}}, []string{module})
	if err != nil {
		t.Fatal(err)
	}
	found := entries(t, raw)
	var job Job
	if err := json.Unmarshal([]byte(found["job.json"]), &job); err != nil {
		t.Fatal(err)
	}
	if found["init"] != "ELF" || found["modules/a.ko"] != "module" || !slices.Equal(job.Modules, []string{"/modules/a.ko"}) || job.Args[0] != "true" {
		t.Errorf("%q, %+v", found, job)
	}
	if _, ok := found["proc"]; !ok {
		t.Error("no directory for proc")
	}
}

func TestCheck(t *testing.T) {
	for want, c := range map[string]Config{
		"mode":      {Mode: "other"},
		"directory": {Dir: "relative"},
		`"w"`:       {Writable: []string{"/ok", "w"}},
	} {
		if status, err := Run(context.Background(), c, []string{"true"}); status != Failed || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %d, %v", c, status, err)
		}
	}
	if _, err := Run(context.Background(), Config{}, nil); err == nil {
		t.Error("no command was accepted")
	}
}

func TestQemuArgs(t *testing.T) {
	c := Config{CPUs: 3, Memory: 512, KernelArgs: []string{"apparmor=0"}}.fill()
	line := strings.Join(qemuArgs(c, "/k"), " ")
	for _, want := range []string{"-smp 3", "-m 512M", "size=512M,share=on", "apparmor=0", "-kernel /k -initrd /proc/self/fd/8", "tcg,thread=single"} {
		if !strings.Contains(line, want) {
			t.Errorf("%q is not in %s", want, line)
		}
	}
}
