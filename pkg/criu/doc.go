// Package criu asks the criu program to write processes to disk and to read them back.
//
// It speaks criu's protocol for callers that start it themselves (`criu swrk`): one
// request over a socket, then notices that want an answer, then one response. The
// messages are protocol buffers (criu's images/rpc.proto), of which only what is used
// here is encoded, by hand: the libraries for them cost more start time than all else
// that a runtime does.
//
// It knows nothing of containers. What belongs to one (its mounts, its descriptors, its
// control group) the caller says in Options.
package criu
