/** A thread that does not get as far as to listen. */
throw new Error("no thread here");
