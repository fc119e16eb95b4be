package dev.kogge.test;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** As much of JSON as the tests need. Objects are sorted maps, numbers are `Long`s if they can be. */
final class Json {
    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    static Object parse(String text) {
        return new Json(text).value();
    }

    @SuppressWarnings("unchecked")
    static Map<String, Object> object(String text) {
        return (Map<String, Object>) parse(text);
    }

    /** One line, keys sorted. */
    static String write(Object value) {
        if (value instanceof Map) {
            List<String> parts = new ArrayList<>();
            new TreeMap<>((Map<?, ?>) value)
                    .forEach((key, it) -> parts.add(quote(key.toString()) + ":" + write(it)));
            return "{" + String.join(",", parts) + "}";
        }
        if (value instanceof List) {
            List<String> parts = new ArrayList<>();
            ((List<?>) value).forEach(it -> parts.add(write(it)));
            return "[" + String.join(",", parts) + "]";
        }
        return value instanceof String ? quote((String) value) : String.valueOf(value);
    }

    private static String quote(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }

    private char next() {
        while (Character.isWhitespace(text.charAt(at))) {
            at++;
        }
        return text.charAt(at);
    }

    private Object value() {
        switch (next()) {
            case '{':
                Map<String, Object> map = new TreeMap<>();
                for (at++; next() != '}'; skipComma()) {
                    String key = string();
                    next();
                    at++;
                    map.put(key, value());
                }
                at++;
                return map;
            case '[':
                List<Object> list = new ArrayList<>();
                for (at++; next() != ']'; skipComma()) {
                    list.add(value());
                }
                at++;
                return list;
            case '"':
                return string();
            default:
                return word();
        }
    }

    private void skipComma() {
        if (next() == ',') {
            at++;
        }
    }

    private Object word() {
        int from = at;
        while (at < text.length() && "+-.".indexOf(text.charAt(at)) >= 0
                || at < text.length() && Character.isLetterOrDigit(text.charAt(at))) {
            at++;
        }
        String word = text.substring(from, at);
        switch (word) {
            case "true":
                return true;
            case "false":
                return false;
            case "null":
                return null;
            default:
                return word.matches("-?\\d+") ? (Object) Long.valueOf(word) : Double.valueOf(word);
        }
    }

    private String string() {
        next();
        StringBuilder result = new StringBuilder();
        for (at++; text.charAt(at) != '"'; at++) {
            if (text.charAt(at) != '\\') {
                result.append(text.charAt(at));
                continue;
            }
            at++;
            int escape = "\"\\/bfnrt".indexOf(text.charAt(at));
            if (escape < 0) {
                result.append((char) Integer.parseInt(text.substring(at + 1, at + 5), 16));
                at += 4;
            } else {
                result.append("\"\\/\b\f\n\r\t".charAt(escape));
            }
        }
        at++;
        return result.toString();
    }
}
