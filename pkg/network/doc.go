// Package network gives containers a network: one bridge of their own, an
// address each, a way out, and ports published on the host. It speaks netlink
// and nftables directly; no other program is run.
//
// It is not a plug-in system and it runs no process. It does not mount or name
// network namespaces: the caller owns the namespace, and the veth pair in it
// dies with it. It holds no port open by itself: the sockets that reserve
// published ports (Reserve) belong to the caller, who keeps them as long as the
// container lives. IPv4 only; IPv6 is switched off on every interface it makes
// (CVE-2024-32473, CVE-2020-10749: a container must not be able to configure
// its neighbours or the host by router advertisements).
//
// # Flow
//
//	ns, _ := network.NewNamespace()            // loopback is up
//	res, _ := network.Reserve(ports)           // bound sockets, ephemeral ports resolved
//	lease, _ := m.Attach(ctx, ns, network.Endpoint{ContainerID: id, Ports: res.Ports()})
//	…                                          // the container runs
//	m.Detach(ctx, id); res.Close(); ns.Close() // the veth goes with the namespace
//	m.Settle(ctx, grace)                       // the last one removes the idle bridge
//
// # What there is on the host
//
// A bridge box<N> (N from 0), whose name claims the N-th subnet of a fixed pool:
// making a link is atomic in the kernel, so two data roots never share a bridge
// or a subnet, and the bridge's MAC address says whose it is. An nftables table
// `inet box<N>`, which is a pure function of the leases (see rules.go); the cost
// of a packet does not grow with the number of containers or ports. Where
// somebody else drops what is forwarded (Docker, ufw, a policy of drop), two
// or more tagged accept rules where that owner looks for users' rules (see
// forward.go). All of it, the bridge too, is gone when no container is left;
// only net.ipv4.ip_forward stays on, because others may have come to need it.
//
// # Invariants
//
//   - RUNROOT/network/state.json is written before the kernel is touched and
//     corrected after it was cleaned, under one lock: whatever exists in the kernel
//     is in the file, so Sweep can remove it after a kill -9 at any moment.
//     No file means that there is nothing to remove.
//   - Rules are changed in single nftables transactions: there is no moment with
//     half a table.
//   - The kernel's ruleset generation is remembered after each change. While it
//     has not moved, nobody has touched any rule and nothing is looked at again;
//     if it has moved, table and accept rules are checked and repaired by the
//     next Attach, Detach or Sweep.
//   - A container never sees a loopback source address, and nothing that comes
//     from outside reaches a port published on 127.0.0.1.
//
// # Limits
//
// A FORWARD chain closed by iptables-legacy is not visible to nftables and is not
// opened. Somebody who closes the forward hook, or flushes the ruleset, while
// containers run cuts them off until the next command of box (Sweep). A bridge has
// room for 1023 containers.
package network
