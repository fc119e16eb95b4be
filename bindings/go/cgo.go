package kogge

// #include "shim.h"
import "C"

import "unsafe"

// handle names an object of the library. It is a number, never an address: the zero handle is none.
type handle = C.kg_handle

// chars is the address of a text's bytes for the duration of a C call, which copies them.
func chars(text string) *C.char {
	if text == "" {
		return nil
	}
	return (*C.char)(unsafe.Pointer(unsafe.StringData(text)))
}

// octets is the address of bytes for the duration of a C call, which copies or only reads them.
func octets(bytes []byte) *C.uint8_t {
	if len(bytes) == 0 {
		return nil
	}
	return (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(bytes)))
}

func size[T string | []byte](it T) C.size_t { return C.size_t(len(it)) }

// textOf copies a text of the library.
func textOf(it C.kogge_str) string {
	if it.len == 0 {
		return ""
	}
	return string(unsafe.Slice((*byte)(unsafe.Pointer(it.ptr)), int(it.len)))
}

// viewOf is memory of the library, valid as long as the object it belongs to.
func viewOf(it C.kogge_bytes) []byte {
	if it.len == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(it.ptr)), int(it.len))
}

// takeBuffer copies what a call gave as a buffer, and frees that.
func takeBuffer(made C.kg_made) ([]byte, error) {
	if err := check(made); err != nil {
		return nil, err
	}
	defer C.kg_buffer_free(made.handle)
	view := viewOf(C.kg_buffer_get(made.handle))
	bytes := make([]byte, len(view))
	copy(bytes, view)
	return bytes, nil
}

// LiveHandles counts the objects of the library that are alive in this process: 0 when all nodes and
// artifacts were closed. For tests.
func LiveHandles() int { return int(C.kogge_debug_live_handles()) }

// Version is the version of the library that is loaded, such as 0.1.0.
func Version() string { return textOf(C.kogge_version()) }
