package command

import (
	"bufio"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// prompted runs `secret set KEY` on a terminal of 80x24 and calls answer, the
// user, once it asks. It returns the exit code and all that the terminal
// showed.
func prompted(t *testing.T, answer func(user *os.File)) (code int, shown string) {
	t.Helper()
	user, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	before := echoes(t, tty)
	ended := make(chan int)
	go func() {
		ended <- Main([]string{"secret", "set", "KEY"}, tty, tty, tty)
	}()
	terminal := bufio.NewReader(user)
	prompt, err := terminal.ReadString(':')
	if err != nil || !before {
		t.Fatalf("prompt %q, %v; the terminal echoes: %v", prompt, err, before)
	}
	answer(user)
	code = <-ended
	if !echoes(t, tty) {
		t.Error("the terminal is left without echo")
	}
	tty.Close()
	io.WriteString(user, "\n")      // a read that was given up keeps it open
	rest, _ := io.ReadAll(terminal) // ends with EIO, as terminals do
	return code, prompt + string(rest)
}

func echoes(t *testing.T, tty *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

func TestSecretIsAskedForWithoutEcho(t *testing.T) {
	f := &fakeAegis{}
	serve(t, f)
	code, shown := prompted(t, func(user *os.File) { io.WriteString(user, "canary value\n") })
	if code != 0 || f.secrets["KEY"] != "canary value" {
		t.Errorf("exit %d, kept %q", code, f.secrets["KEY"])
	}
	if strings.Contains(shown, "canary") || !strings.Contains(shown, "Value of KEY:") || !strings.Contains(shown, "Secret KEY set") {
		t.Errorf("the terminal shows %q", shown)
	}
}

func TestSecretPromptEndsWithASignal(t *testing.T) {
	f := &fakeAegis{}
	serve(t, f)
	code, shown := prompted(t, func(*os.File) { syscall.Kill(os.Getpid(), syscall.SIGINT) })
	if code != 1 || f.secrets != nil || !strings.Contains(shown, "interrupted") {
		t.Errorf("exit %d, kept %q, the terminal shows %q", code, f.secrets, shown)
	}
}

func TestSecretPromptRefusesNothing(t *testing.T) {
	f := &fakeAegis{}
	serve(t, f)
	code, shown := prompted(t, func(user *os.File) { io.WriteString(user, "\n") })
	if code != 1 || f.secrets != nil || !strings.Contains(shown, "its value is empty") {
		t.Errorf("exit %d, kept %q, the terminal shows %q", code, f.secrets, shown)
	}
}
