package dev.kogge.test;

import dev.kogge.Kogge;

/** Loads the native library, from wherever the properties say, and prints what it is. */
final class Load {
    private Load() {}

    public static void main(String[] none) {
        try {
            System.out.println("kogge " + Kogge.version());
        } catch (UnsatisfiedLinkError e) {
            System.out.println("no library: " + e.getMessage());
            try {
                Kogge.version();
            } catch (LinkageError again) {
                System.out.println("nor again");
            }
        }
    }
}
