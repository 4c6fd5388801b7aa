// Package build makes an image from a Dockerfile.
//
// The flow: the text is parsed into stages (package dockerfile), the stages of
// the target become a graph of operations (package plan, pure), the graph is
// solved against the cache, in containers where it must be (package solve with
// package cache), and the outcome becomes an image of the store (here).
//
// It needs no daemon: one call is one build, any number of them may run at
// once over the same directories, and a build that is killed leaves nothing
// that the next Sweep does not find.
//
// Same inputs give the same image: no digest holds a clock time. What has no
// time of its own gets that of its newest input, so that an image made of
// copied files alone is the same on every machine where the files are; a
// command that writes the time, or files with new times, makes the difference.
//
// It is not a registry client: images that are not in the store are asked of
// Env.Pull.
package build
