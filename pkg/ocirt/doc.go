// Package ocirt is a client for OCI runtime programs: box-runtime, runc,
// crun, or anything else that understands runc's command line.
//
// It starts one short-lived process per verb and turns the outcome into Go
// values and classified errors. It knows nothing of images, networks or
// records, keeps no state between calls, and never looks into the runtime's
// own state directory (Clear removes what a killed runtime left in it).
//
// Invariants:
//   - the runtime gets no environment but PATH and XDG_RUNTIME_DIR, so nothing
//     of the caller's environment can reach a hook or a container;
//   - file descriptors other than the three of the container's stdio and those
//     listed in Inherit are close-on-exec;
//   - the text of an error is the runtime's own last error line (its --log
//     file in JSON form), because engines and users know those words.
//
// The flow: Run (or Create then Start) → Kill → Delete. A caller that may be
// killed at any moment can always end with Delete(force), which succeeds when
// there is nothing to delete.
package ocirt
