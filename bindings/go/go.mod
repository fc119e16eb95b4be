module kogge.dev/go/kogge

go 1.24
