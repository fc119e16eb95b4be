package kogge

// lost is what a cleanup knows of an object that was not closed. It must not lead to the object.
type lost struct {
	what  string
	close func()
	made  string
}

// forgotten closes what the program can no longer close. A program should not count on it: it comes
// when the garbage collector comes.
func forgotten(it lost) {
	report(it.what, it.made)
	it.close()
}
