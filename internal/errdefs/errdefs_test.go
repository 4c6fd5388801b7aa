package errdefs

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

func TestClassSurvivesWrapping(t *testing.T) {
	err := fmt.Errorf("open store: %w", New(ErrNotFound, "image %q: %w", "x", fs.ErrNotExist))
	if got, want := err.Error(), `open store: image "x": file does not exist`; got != want {
		t.Errorf("text = %q, want %q", got, want)
	}
	for _, class := range []error{ErrNotFound, fs.ErrNotExist} {
		if !errors.Is(err, class) {
			t.Errorf("errors.Is(err, %v) = false", class)
		}
	}
	if errors.Is(err, ErrExists) {
		t.Error("error is in a class that nobody gave it")
	}
}

func TestWrapKeepsTextAndNil(t *testing.T) {
	err := Wrap(ErrConflict, errors.New("port 80: in use"))
	if err.Error() != "port 80: in use" || !errors.Is(err, ErrConflict) {
		t.Errorf("Wrap = %q, conflict %t", err, errors.Is(err, ErrConflict))
	}
	if Wrap(ErrConflict, nil) != nil || WithHint(nil, "x") != nil {
		t.Error("nil did not stay nil")
	}
}

func TestHintIsFoundThroughWrapping(t *testing.T) {
	err := fmt.Errorf("run: %w", WithHint(New(ErrConflict, "name taken"), "remove it with box rm %s", "web"))
	if got := Hint(err); got != "remove it with box rm web" {
		t.Errorf("Hint = %q", got)
	}
	if err.Error() != "run: name taken" || Hint(errors.New("x")) != "" {
		t.Error("hint leaked into the text, or was found where none is")
	}
}
