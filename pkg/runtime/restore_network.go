package runtime

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/bare"
	"box/internal/sys"
	"box/pkg/namespaces"
	"box/pkg/netdev"
	"box/pkg/spec"
)

// setUpNetwork makes of a new network namespace, which criu leaves empty, what the launch
// program and we make of it for a container that is created. The process is the first one
// there. One that is joined is as the container has left it.
func (c *restoration) setUpNetwork(pid int) error {
	if !c.set.Creates(specs.NetworkNamespace) {
		return nil
	}
	pidfd, err := sys.PidfdOpen(pid)
	if err != nil {
		return err
	}
	defer pidfd.Close()
	err = namespaces.EnterNetwork(pidfd, func() error {
		if err := setNetworkSysctls(c.spec.Linux.Sysctl); err != nil {
			return err
		}
		loopback, err := bare.Start(netdev.RaiseLoopback()...) // which is where we are
		if err != nil {
			return err
		}
		return loopback.Wait()
	})
	if devices := c.spec.Linux.NetDevices; err == nil && len(devices) > 0 {
		err = netdev.Move(pid, pidfd, devices)
	}
	return err
}

// setNetworkSysctls sets those kernel parameters that are of the thread's network
// namespace: what procfs shows below /proc/sys/net depends on who looks.
func setNetworkSysctls(values map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		path, err := spec.SysctlPath(name)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(path, "net/") {
			continue // of namespaces that criu restores
		}
		if err := writeThere("/proc/sys/"+path, values[name]); err != nil {
			return fmt.Errorf("set sysctl %s to %s: %w", name, values[name], err)
		}
	}
	return nil
}
