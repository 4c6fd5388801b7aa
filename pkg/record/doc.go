// Package record holds what box knows of a container, and the messages on the
// socket between the engine and a container's monitor: the one truth that the
// two share.
//
// It is not the engine: nothing here starts, stops or removes a container, and
// it decides nothing. It does not hold the OCI configuration either; that is
// config.json in the same directory, which is complete and constant from
// create on.
//
// On disk:
//
//	ROOT/containers/<id>/record.json     identity, options and state
//	ROOT/containers/.names/<name>        symbolic link whose target is the id
//	RUNROOT/containers/<id>/lock         fcntl lock: who holds it may change the container
//	RUNROOT/containers/<id>/monitor.sock SOCK_SEQPACKET, while a monitor serves
//
// Invariants:
//   - record.json is written last when a container is made and is replaced
//     atomically: a directory without it is the leftover of a creator that died;
//   - only the holder of the container's lock writes its record or removes it;
//   - the run directory exists only while somebody holds the lock, so a run
//     directory whose lock is free belongs to a process that was killed: a sweep
//     needs no more than one look at that directory;
//   - the lock passes from the process that creates or starts a container to
//     its monitor, and from there to the runtime process, by inheritance of the
//     open file: it is free only when all of them are gone.
//
// The one flow: Store.NewID → Lock → ReserveName → Save → (monitor: Save …) →
// Remove → Unlock.
package record
