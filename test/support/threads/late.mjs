/** A thread that never gets as far as to listen. */
setInterval(() => {}, 1000);
