// Package limits holds tests alone: that a limit written into config.json is felt
// by the container's processes, whatever the runtime says of it. They need pure cgroup
// v2 with the controllers, and root or a user with a delegated group; elsewhere they
// skip, and package test/vm runs them in its machine, as both.
//
// BOX_TEST_RUNTIME names a runtime that is built already; with runc or crun the
// tests are tests of themselves.
package limits
