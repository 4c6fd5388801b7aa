package vm

import (
	"encoding/json"
	"fmt"
	"io"
)

// control is QEMU's monitor: a JSON object per command and per answer
// (docs/interop/qmp-spec.txt of QEMU).
type control struct {
	in  *json.Decoder
	out *json.Encoder
}

// newControl reads the greeting and leaves the state in which no command is allowed.
func newControl(channel io.ReadWriter) (*control, error) {
	q := &control{json.NewDecoder(channel), json.NewEncoder(channel)}
	var greeting map[string]any
	if err := q.in.Decode(&greeting); err != nil {
		return nil, fmt.Errorf("read greeting: %w", err)
	}
	_, err := q.call("qmp_capabilities", nil)
	return q, err
}

// call runs one command and returns its answer. Events that come before it are
// dropped.
func (q *control) call(name string, arguments map[string]string) (json.RawMessage, error) {
	request := struct {
		Execute   string            `json:"execute"`
		Arguments map[string]string `json:"arguments,omitempty"`
	}{name, arguments}
	if err := q.out.Encode(request); err != nil {
		return nil, err
	}
	for {
		var answer struct {
			Return json.RawMessage        `json:"return"`
			Error  *struct{ Desc string } `json:"error"`
		}
		if err := q.in.Decode(&answer); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		switch {
		case answer.Error != nil:
			return nil, fmt.Errorf("%s: %s", name, answer.Error.Desc)
		case answer.Return != nil:
			return answer.Return, nil
		}
	}
}

// ask runs a command that is meant for people and returns its text, or why there
// is none.
func (q *control) ask(line string) string {
	raw, err := q.call("human-monitor-command", map[string]string{"command-line": line})
	var text string
	if err == nil {
		err = json.Unmarshal(raw, &text)
	}
	if err != nil {
		return err.Error()
	}
	return text
}

// press is the "magic SysRq" of a serial line: a break, then the key, which the
// kernel takes for one only if it comes after a break.
func (q *control) press(serial io.Writer, key rune) error {
	if _, err := q.call("chardev-send-break", map[string]string{"id": "console"}); err != nil {
		return err
	}
	_, err := serial.Write([]byte(string(key)))
	return err
}
