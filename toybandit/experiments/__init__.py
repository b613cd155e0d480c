"""The numbered statements of TOY as experiments: protocol in, `Statement` out, one function per statement."""
