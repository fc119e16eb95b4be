module kogge.dev/go/kogge-get

go 1.24

require kogge.dev/go/kogge v0.0.0

replace kogge.dev/go/kogge => ../../bindings/go
