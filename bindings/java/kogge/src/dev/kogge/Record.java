package dev.kogge;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

/** Reads what the native methods packed: numbers, digests, texts. */
final class Record {
    private static final char[] DIGITS = "0123456789abcdef".toCharArray();
    private static final int DIGEST_BYTES = 32;

    private final byte[] bytes;
    private final ByteBuffer numbers;

    Record(byte[] bytes) {
        this.bytes = bytes;
        numbers = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
    }

    long number() {
        return numbers.getLong();
    }

    /** A digest in hex. */
    String digest() {
        int at = numbers.position();
        numbers.position(at + DIGEST_BYTES);
        return hex(bytes, at, DIGEST_BYTES);
    }

    String text() {
        int len = numbers.getInt();
        int at = numbers.position();
        numbers.position(at + len);
        return new String(bytes, at, len, StandardCharsets.UTF_8);
    }

    static String hex(byte[] bytes) {
        return hex(bytes, 0, bytes.length);
    }

    private static String hex(byte[] bytes, int at, int len) {
        char[] text = new char[2 * len];
        for (int i = 0; i < len; i++) {
            text[2 * i] = DIGITS[(bytes[at + i] >> 4) & 15];
            text[2 * i + 1] = DIGITS[bytes[at + i] & 15];
        }
        return new String(text);
    }
}
