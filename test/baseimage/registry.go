package baseimage

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Registry is a running docker-registry on loopback.
type Registry struct {
	Addr string // host:port
	cmd  *exec.Cmd
}

// StartRegistry starts Debian's docker-registry with its data and its config
// in dir, on the given loopback address ("127.0.0.1:0" for any port). A
// non-empty htpasswd names a file with the users that are let in.
func StartRegistry(ctx context.Context, dir, listen, htpasswd string) (*Registry, error) {
	addr, err := freeAddr(listen)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "registry.yml")
	if err := os.WriteFile(config, []byte(registryConfig(dir, addr, htpasswd)), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "docker-registry", "serve", config)
	// The registry dies with the thread that started it, so it cannot outlive
	// a test that is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "OTEL_TRACES_EXPORTER=none"}
	messages, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start docker-registry: %w", err)
	}
	if err := untilListening(messages); err != nil {
		_ = cmd.Wait()
		return nil, err
	}
	return &Registry{Addr: addr, cmd: cmd}, nil
}

// Stop ends the registry.
func (r *Registry) Stop() error {
	if err := r.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = r.cmd.Wait() // killed: it says so
	return nil
}

// freeAddr finds the port for ":0" by binding it for a moment.
func freeAddr(listen string) (string, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return "", fmt.Errorf("listen on %s: %w", listen, err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func registryConfig(dir, addr, htpasswd string) string {
	c := fmt.Sprintf(`version: 0.1
log: {level: info}
storage:
  filesystem: {rootdirectory: %q}
  delete: {enabled: true}
http: {addr: %q}
`, filepath.Join(dir, "data"), addr)
	if htpasswd != "" {
		c += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", htpasswd)
	}
	return c
}

// untilListening reads the registry's log until it says that it serves; the
// rest of the log is thrown away.
func untilListening(log io.Reader) error {
	lines := bufio.NewReader(log)
	var said []string
	for {
		line, err := lines.ReadString('\n')
		if strings.Contains(line, "listening on") {
			go func() { _, _ = io.Copy(io.Discard, lines) }()
			return nil
		}
		said = append(said, line)
		if err != nil {
			return fmt.Errorf("docker-registry ended: %s", strings.Join(said, ""))
		}
	}
}
