package demo;

import static org.junit.Assert.assertEquals;

import org.junit.Test;

public class GreetingTest {
    @Test
    public void greetsByName() {
        assertEquals("Ahoy, Kogge!", Greeting.to("kogge"));
    }
}
