package monitor

import (
	"os"
	"sync"

	"box/internal/errdefs"
	"box/pkg/record"
)

// server answers clients.
type server struct {
	listener *record.Listener
	m        *monitor

	mu      sync.Mutex
	clients map[*client]bool
	over    *record.Event // the last word, once it is known
}

// client is one connection.
type client struct {
	conn           *record.Conn
	stdout, stderr *os.File
}

func newServer(l *record.Listener, m *monitor) *server {
	return &server{listener: l, m: m, clients: map[*client]bool{}}
}

// run accepts clients until the program ends: also those that come during
// teardown are told the end.
func (s *server) run() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		go s.serve(conn)
	}
}

// serve reads the one request of a connection.
func (s *server) serve(conn *record.Conn) {
	req, files, err := conn.ReadRequest()
	if err != nil {
		_ = conn.Close()
		return
	}
	switch req.Op {
	case record.OpWait:
		closeFiles(files)
		s.join(&client{conn: conn})
	case record.OpAttach:
		c := &client{conn: conn}
		c.stdout, c.stderr = outputs(req, files)
		s.m.streams.stdout.add(c.stdout)
		s.m.streams.stderr.add(c.stderr)
		s.welcome(c, req)
	default:
		closeFiles(files)
		_ = conn.SendEvent(record.Failed(errdefs.New(errdefs.ErrUnsupported, "request %q is not supported", req.Op), engineFailed))
		_ = conn.Close()
	}
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // sent for nothing
	}
}

// adopt makes the engine that started us a client. Its output files are
// connected already.
func (s *server) adopt(conn *record.Conn, req record.Request, files []*os.File) {
	c := &client{conn: conn}
	c.stdout, c.stderr = outputs(req, files)
	s.welcome(c, req)
	if s.m.record.Config.StdinOnce && !s.m.record.Config.Tty && s.m.streams.stdin != nil {
		// The client's copy is the only one now: stdin ends with it.
		_ = s.m.streams.stdin.Close()
		s.m.streams.stdin = nil
	}
}

// welcome tells a client that the container runs, and gives it stdin.
func (s *server) welcome(c *client, req record.Request) {
	var input []*os.File
	if req.Stdin && s.m.streams.stdin != nil {
		input = append(input, s.m.streams.stdin)
	}
	// A client that is gone is noticed by join.
	_ = c.conn.SendEvent(record.Event{Kind: record.EventStarted, Pid: s.m.record.State.Pid}, input...)
	s.join(c)
}

// join keeps the client for the end, and notices when it leaves before.
func (s *server) join(c *client) {
	s.mu.Lock()
	over := s.over
	if over == nil {
		s.clients[c] = true
	}
	s.mu.Unlock()
	if over != nil {
		s.tell(c, *over)
		return
	}
	go func() {
		// Clients say nothing more: whatever comes is the end.
		_, files, _ := c.conn.ReadRequest()
		closeFiles(files)
		s.leave(c)
	}()
}

// leave forgets a client. Whoever is first, its own end or ours, does it.
func (s *server) leave(c *client) {
	s.mu.Lock()
	was := s.clients[c]
	delete(s.clients, c)
	s.mu.Unlock()
	if was {
		s.dismiss(c)
	}
}

// dismiss closes everything that we have of a client.
func (s *server) dismiss(c *client) {
	s.m.streams.stdout.remove(c.stdout)
	s.m.streams.stderr.remove(c.stderr)
	_ = c.conn.Close()
}

// tellAll tells every client, now and later, how the container ended.
func (s *server) tellAll(e record.Event) {
	s.mu.Lock()
	s.over = &e
	clients := make([]*client, 0, len(s.clients))
	for c := range s.clients {
		clients = append(clients, c)
	}
	clear(s.clients)
	s.mu.Unlock()
	for _, c := range clients {
		s.tell(c, e)
	}
}

func (s *server) tell(c *client, e record.Event) {
	_ = c.conn.SendEvent(e) // a client that is gone has nothing to learn
	s.dismiss(c)
}
