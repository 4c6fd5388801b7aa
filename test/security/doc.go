// Package security attacks box-runtime, and does nothing else: it has tests only.
//
// docs/security.md lists every weakness of runtimes known from the past beside the
// test that shows that box-runtime does not have it. Those that need no more than
// one package stand beside that package; here are the ones that need a hostile
// container, a racing neighbour or a watched host:
//
//   - the peeker (probe/peek.go) lives in a container and tries to get hold of
//     everybody who joins it;
//   - the racer (probe/race.go) exchanges a directory and a symlink at full speed
//     while containers are set up through that name;
//   - the host watch (probe/watch.go) runs box-runtime on a copy of the host that
//     remembers every change.
//
// A test that an attack fails proves little until the attack has been seen to
// succeed. So each was run against a box-runtime with the defence taken out; where
// the harness itself can be shown to work (the watch notices a write, the racer
// exchanges) a test does so every time.
package security
