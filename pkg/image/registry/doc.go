// Package registry moves images between registries and the store: pull, push,
// login. The protocol (OCI distribution spec) is spoken by go-containerregistry:
// its transport does the handshake, tokens and retries, its pusher the uploads.
//
// # Trust
//
// A registry is hostile. It may answer with anything, redirect anywhere and ask
// for credentials on behalf of others. What holds regardless:
//
//   - Every request of this package goes through one guard (guard.go), which
//     decides by where the request goes, not by what the layers above intended:
//     no plain http unless the registry is configured so or is on the loopback
//     device; credentials only to the registry itself or, by https, to a host of
//     the same registrable domain; nothing sends us to link-local, loopback or
//     private addresses unless the registry itself lies there.
//   - Manifests and configurations are bounded in size; every byte is verified
//     against a digest before it gets a name (package store).
//   - A pinned digest is what comes, or nothing comes.
//
// # Configuration
//
// Which registries have mirrors or speak plain http stands in registries.toml
// (config.go), in the form that other tools use; credentials in Docker's
// config.json (auth.go).
//
// Linking go-containerregistry also links docker/cli's configuration package,
// which its authn package imports. Nothing of it is called: the keychain here is
// our own.
package registry
