package dev.kogge.test;

import dev.kogge.FetchRequest;
import dev.kogge.Kogge;
import dev.kogge.KoggeException;
import dev.kogge.KoggeStatus;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** What the tests of `dev.kogge` have in common: each method whose name begins with `claim` is one. */
abstract class Claims {
    final Scene scene;

    Claims(Scene scene) {
        this.scene = scene;
    }

    /** Runs the claims of a class with these names; all if there are no names. Gives their number. */
    final int run(List<String> names) throws Throwable {
        List<Method> claims = Stream.of(getClass().getDeclaredMethods())
                .filter(it -> it.getName().startsWith("claim"))
                .filter(it -> names.isEmpty() || names.contains(it.getName()))
                .sorted(Comparator.comparing(Method::getName)).collect(Collectors.toList());
        for (Method claim : claims) {
            long begun = System.nanoTime();
            try {
                claim.invoke(this);
            } catch (InvocationTargetException e) {
                System.out.println(claim.getName() + " FAILED");
                throw e.getCause();
            }
            waitForNoHandles(claim.getName());
            System.out.printf("%s %d ms%n", claim.getName(), (System.nanoTime() - begun) / 1_000_000);
        }
        return claims.size();
    }

    interface Body {
        void run() throws Exception;
    }

    static void check(boolean holds, Object message) {
        if (!holds) {
            throw new AssertionError(message);
        }
    }

    static void equal(Object expected, Object found) {
        check(expected.equals(found), "expected " + expected + ", found " + found);
    }

    static KoggeException fails(KoggeStatus status, Body body) throws Exception {
        try {
            body.run();
        } catch (KoggeException e) {
            check(e.status() == status, "expected " + status + ", found " + e.status() + ": " + e);
            return e;
        } catch (ExecutionException e) {
            check(e.getCause() instanceof KoggeException, e);
            KoggeException cause = (KoggeException) e.getCause();
            check(cause.status() == status, "expected " + status + ", found " + cause);
            return cause;
        }
        throw new AssertionError("it did not fail; expected " + status);
    }

    static void waitUntil(String what, Body step, java.util.function.BooleanSupplier holds)
            throws Exception {
        long end = System.nanoTime() + Scene.LIMIT.toNanos();
        while (!holds.getAsBoolean()) {
            check(System.nanoTime() < end, what + ": not within " + Scene.LIMIT);
            step.run();
            Thread.sleep(10);
        }
    }

    interface Ask<T> {
        T ask() throws KoggeException;
    }

    static <T> T again(Ask<T> ask) throws Exception {
        AtomicReference<T> answer = new AtomicReference<>();
        waitUntil("an answer", () -> {
            try {
                answer.set(ask.ask());
            } catch (KoggeException e) {
                check(e.status() == KoggeStatus.AGAIN && e.isRetryable(), e);
            }
        }, () -> answer.get() != null);
        return answer.get();
    }

    /** Everything was freed; what the cleaner frees may take a moment. */
    void waitForNoHandles(String name) throws Exception {
        waitUntil(name + ": no live handles, but " + Kogge.liveHandles(), System::gc,
                () -> Kogge.liveHandles() == 0);
    }

    static FetchRequest request(Scene.Known it) {
        return FetchRequest.of(it.what).file(it.file);
    }
}
