package vm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// bootModules are what the guest needs before it has its root: the disk, the port,
// the host's files, and the overlay over them. The rest is loaded by the kernel itself when
// it is asked for.
var bootModules = []string{"virtio_pci", "virtio_blk", "virtio_console", "virtiofs", "overlay"}

// kernel is an unpacked kernel package.
type kernel struct {
	image   string // the file to boot
	modules string // directory with one directory per version
	version string
}

// findKernel returns the kernel from the cache, and fetches it if it is not there:
// scripts/kernel.sh.
func findKernel(ctx context.Context) (*kernel, error) {
	_, self, _, _ := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(self), "../../../scripts/kernel.sh")
	cmd := exec.CommandContext(ctx, "sh", script)
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("fetch the kernel: %w: %s", err, messages.String())
	}
	return openKernel(strings.TrimSpace(out.String()))
}

// openKernel looks at an unpacked package.
func openKernel(dir string) (*kernel, error) {
	k := &kernel{image: filepath.Join(dir, "boot/vmlinuz"), modules: filepath.Join(dir, "lib/modules")}
	versions, err := os.ReadDir(k.modules)
	if err != nil {
		return nil, fmt.Errorf("open kernel: %w", err)
	}
	if len(versions) != 1 {
		return nil, fmt.Errorf("open kernel %s: %d versions of modules, want one", dir, len(versions))
	}
	k.version = versions[0].Name()
	return k, nil
}

// bootOrder returns the paths of the boot modules and of what they need, in the order in
// which they load.
func (k *kernel) bootOrder() ([]string, error) {
	dir := filepath.Join(k.modules, k.version)
	table, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("read modules: %w", err)
	}
	order, err := loadOrder(string(table), bootModules)
	if err != nil {
		return nil, fmt.Errorf("read %s/modules.dep: %w", dir, err)
	}
	for i := range order {
		order[i] = filepath.Join(dir, order[i])
	}
	return order, nil
}

// loadOrder reads the text of modules.dep ("module: its needs, nearest first", see
// depmod(8)) and lists names and their needs, each once, needs first.
func loadOrder(table string, names []string) (order []string, err error) {
	needs := map[string][]string{}
	for line := range strings.Lines(table) {
		file, rest, _ := strings.Cut(line, ":")
		needs[strings.TrimSuffix(filepath.Base(file), ".ko")] = append([]string{file}, strings.Fields(rest)...)
	}
	for _, name := range names {
		files, known := needs[name]
		if !known {
			return nil, fmt.Errorf("module %s: not there", name)
		}
		for _, file := range slices.Backward(files) {
			if !slices.Contains(order, file) {
				order = append(order, file)
			}
		}
	}
	return order, nil
}
