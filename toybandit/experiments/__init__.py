"""The numbered statements of docs/toy.md as experiments: protocol in, `Statement` out, one function per statement."""
