package dev.kogge.maven;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import javax.inject.Inject;
import javax.inject.Named;
import javax.inject.Provider;
import javax.inject.Singleton;
import org.eclipse.aether.RepositorySystemSession;
import org.eclipse.aether.repository.RemoteRepository;
import org.eclipse.aether.spi.connector.transport.Transporter;
import org.eclipse.aether.spi.connector.transport.TransporterFactory;
import org.eclipse.aether.transfer.NoTransporterException;

/** Stands before the transporter that Maven would have used. */
@Named(KoggeTransporterFactory.NAME)
@Singleton
public final class KoggeTransporterFactory implements TransporterFactory {
    static final String NAME = "kogge";

    /** Before those of Maven, also before one that {@code maven.resolver.transport} chooses. */
    private static final float PRIORITY = Float.POSITIVE_INFINITY;

    private static final String PRIORITIES = "aether.priority.";

    /** By which algorithms Maven checks; after a dot may follow a repository. The first is Maven 4's. */
    private static final List<String> CHECKSUMS =
            List.of("aether.layout.maven2.checksumAlgorithms", "aether.checksums.algorithms");

    private static final String CHECKSUMS_DEFAULT = "SHA-1,MD5";

    private final Map<String, Provider<TransporterFactory>> all;
    private final KoggeSource source;

    @Inject
    KoggeTransporterFactory(Map<String, Provider<TransporterFactory>> all, KoggeSource source) {
        this.all = all;
        this.source = source;
    }

    @Override
    public Transporter newInstance(RepositorySystemSession session, RemoteRepository repository)
            throws NoTransporterException {
        if (!source.serves(session, repository)) {
            // Then the next factory is asked, as if this one were not there.
            throw new NoTransporterException(repository);
        }
        List<TransporterFactory> others = new ArrayList<>();
        all.forEach((name, factory) -> {
            if (!NAME.equals(name)) {
                others.add(factory.get());
            }
        });
        Map<String, Object> config = session.getConfigProperties();
        others.removeIf(it -> Float.isNaN(priority(it, config)));
        Comparator<TransporterFactory> order = Comparator.comparingDouble(it -> priority(it, config));
        others.sort(order.reversed());
        for (TransporterFactory other : others) {
            try {
                return new KoggeTransporter(source, other.newInstance(session, repository),
                        checksums(config, repository.getId()));
            } catch (NoTransporterException e) {
                // That one is for other protocols.
                continue;
            }
        }
        throw new NoTransporterException(repository);
    }

    /** As Maven finds it: what the session says of its class comes first. */
    private static float priority(TransporterFactory factory, Map<String, Object> config) {
        Class<?> type = factory.getClass();
        while (type.getName().contains("$$")) {
            type = type.getSuperclass();
        }
        String name = type.getSimpleName();
        for (String key : List.of(type.getName(), name, name.replaceFirst("Factory$", ""))) {
            Object given = config.get(PRIORITIES + key);
            try {
                if (given instanceof Number || given instanceof String) {
                    return Float.parseFloat(given.toString());
                }
            } catch (NumberFormatException e) {
                // Maven passes over it, too.
                continue;
            }
        }
        return factory.getPriority();
    }

    /** All that are set: versions of Maven differ in which setting wins. */
    private static Set<String> checksums(Map<String, Object> config, String repository) {
        Set<String> names = new LinkedHashSet<>();
        for (String setting : CHECKSUMS) {
            for (String key : List.of(setting, setting + "." + repository)) {
                Object given = config.get(key);
                names.addAll(given instanceof String ? names((String) given) : List.of());
            }
        }
        return names.isEmpty() ? names(CHECKSUMS_DEFAULT) : names;
    }

    private static Set<String> names(String list) {
        Set<String> names = new LinkedHashSet<>(Arrays.asList(list.trim().split("\\s*,\\s*")));
        names.remove("");
        return names;
    }

    @Override
    public float getPriority() {
        return PRIORITY;
    }
}
