package layer_test

import (
	"bytes"
	"fmt"
	"io"

	"box/pkg/image/layer"
)

func ExampleDecompress() {
	var compressed bytes.Buffer
	w, err := layer.Compress(&compressed)
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := io.WriteString(w, "an archive"); err != nil {
		fmt.Println(err)
		return
	}
	if err := w.Close(); err != nil {
		fmt.Println(err)
		return
	}
	r, err := layer.Decompress(&compressed)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	fmt.Println(string(text), err)
	// Output: an archive <nil>
}
