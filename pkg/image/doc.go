// Package image is the vocabulary of images: references, platforms, the image
// configuration, manifests. It does no input or output; package layer turns tar
// streams into trees, package store keeps images, package registry moves them.
//
// Everything here that comes from outside (a manifest, a configuration, a
// reference) is hostile until its parse function has returned: digests are
// validated before anything uses them as a path or a URL, and a document that
// could be read in two ways is refused (CVE-2021-41190, CVE-2024-3727).
package image
