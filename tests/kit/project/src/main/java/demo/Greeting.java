package demo;

import org.apache.commons.lang3.StringUtils;

/** Says ahoy. */
public final class Greeting {
    private Greeting() {
    }

    /** A greeting for {@code name}. */
    public static String to(String name) {
        return "Ahoy, " + StringUtils.capitalize(name) + "!";
    }
}
