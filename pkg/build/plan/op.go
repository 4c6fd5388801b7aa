package plan

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"box/pkg/build/dockerfile"

	"github.com/opencontainers/go-digest"
)

// Kind says what an operation does.
type Kind string

// The kinds of operations.
const (
	// KindScratch is the empty file system.
	KindScratch Kind = "scratch"
	// KindImage is the file system of an image.
	KindImage Kind = "image"
	// KindRun runs a command.
	KindRun Kind = "run"
	// KindCopy copies files from the context, an operation's result or the plan itself.
	KindCopy Kind = "copy"
	// KindWorkdir makes a directory if it is missing.
	KindWorkdir Kind = "workdir"
)

// Op is one operation: a file system made from other file systems. Exactly
// the field that belongs to Kind is set.
type Op struct {
	Kind Kind
	// Base is the operation whose result is changed; nil for scratch and image.
	Base *Op
	// From is what a copy reads; nil if it reads the build context.
	From *Op

	Image   *Image
	Run     *Run
	Copy    *Copy
	Workdir *Workdir

	// Def is the definition digest: the op with all that it stands on.
	Def digest.Digest
	// Index is the place in Plan.Ops.
	Index int
	// Name is shown to people: "[build 2/4] RUN make".
	Name string
	// Step names the place in the Dockerfile across edits: "build 2".
	Step string
	// FromName is what --from said.
	FromName string
	// Pos is the instruction that made the op, for errors.
	Pos dockerfile.Pos
}

// Image is a base image that has been resolved.
type Image struct {
	// Name is the normalised reference, Platform "os/arch[/variant]".
	Name, Platform string
	// ID is what the resolver identified the image by.
	ID digest.Digest
}

// Run is a command to run.
type Run struct {
	Args []string
	// Env is the complete environment but for HOME and Proxy.
	Env  []string
	Cwd  string
	User string
	// Script, if not nil, is made available as an executable file and run instead of Args.
	Script *dockerfile.Script `json:",omitempty"`
	// Network is "default", "none" or "host".
	Network string
	// Arch is the architecture that the image is for.
	Arch string
	// Proxy holds proxy variables that were not declared: they reach the
	// command, but a different proxy does not make it a different command.
	Proxy []string `json:"-"`
}

// Copy is a copy of files.
type Copy struct {
	// Sources are cleaned patterns relative to the root of what is copied from.
	Sources []string
	// Inline are files whose text stands in the Dockerfile.
	Inline []File
	// Dest is an absolute path; with DestDir it names a directory into which
	// the sources go.
	Dest    string
	DestDir bool
	// Chown is "user[:group]" or empty, Chmod octal or symbolic or empty.
	Chown, Chmod string
	// Unpack says that archives among the sources are unpacked (ADD).
	Unpack bool
	// Exclude holds patterns, as in .dockerignore, of what is left out.
	Exclude []string
}

// File is a file whose text stands in the Dockerfile.
type File struct{ Name, Data string }

// Workdir is a directory that must exist.
type Workdir struct {
	Path string
	// User owns what has to be made; empty for root.
	User string
}

// Spec gives the op's own definition without its inputs: what a cache key is
// made of, together with what the inputs turned out to hold.
func (o *Op) Spec() any {
	switch o.Kind {
	case KindImage:
		return o.Image
	case KindRun:
		return o.Run
	case KindCopy:
		return o.Copy
	case KindWorkdir:
		return o.Workdir
	}
	return nil
}

// Inputs gives the ops whose results this one needs.
func (o *Op) Inputs() []*Op {
	var in []*Op
	if o.Base != nil {
		in = append(in, o.Base)
	}
	if o.From != nil {
		in = append(in, o.From)
	}
	return in
}

// FromContext says whether the op reads the build context.
func (o *Op) FromContext() bool {
	return o.Kind == KindCopy && o.From == nil && len(o.Copy.Sources) > 0
}

// define computes the definition digest.
func (o *Op) define() digest.Digest {
	def := struct {
		Kind       Kind
		Spec       any
		Base, From digest.Digest
	}{Kind: o.Kind, Spec: o.Spec()}
	if o.Base != nil {
		def.Base = o.Base.Def
	}
	if o.From != nil {
		def.From = o.From.Def
	}
	text, err := json.Marshal(def)
	if err != nil {
		// Only strings, numbers and lists of them: Marshal cannot fail.
		panic(fmt.Sprintf("marshal definition: %v", err))
	}
	return digest.NewDigestFromBytes(digest.SHA256, sum(text))
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}
