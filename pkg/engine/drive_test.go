package engine

// drive is this test program acting as a client that is to be killed.
func drive(args []string) int { return 0 }
