//! Progress on the terminal: bars with loss terms, images a second and the time that is left.
