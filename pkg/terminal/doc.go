// Package terminal gives a container its terminal and hands the other end out.
//
// Inside, as steps of a launch program (Add): a pty is opened in the container's own
// devpts, made the controlling terminal and the standard streams, mounted on
// /dev/console, and its master is sent over the console socket.
//
// Outside, for whoever owns the user's terminal or the master: Listen and Receive for
// the console socket, MakeRaw, Size and SetSize.
//
// It copies no data and knows no protocol: streams and logs are their owners'
// business. Invariant: no path is trusted. The pty is opened in a directory that is
// verified to be a devpts, its slave comes from the master by TIOCGPTPEER, and
// /dev/console is mounted from that descriptor (CVE-2025-52565).
package terminal
