(* Preference models: Bradley-Terry and Plackett-Luce see reward differences only. *)
Require Import Reals Lra List Sums.
Import ListNotations.
Open Scope R_scope.

Definition sigma (x : R) := / (1 + exp (- x)).

(* The form in which code computes the loss of a pair: log(1 + e^(-x)). *)
Lemma minus_log_sigma x : - ln (sigma x) = ln (1 + exp (- x)).
Proof. unfold sigma. pose proof (exp_pos (- x)). rewrite ln_Rinv by lra. ring. Qed.

Section Rankings.
Variable A : Type.

(* The probability of a ranking, best first: each place is won against all that are still left. *)
Fixpoint plackett_luce (f : A -> R) (l : list A) : R :=
  match l with [] => 1 | y :: t => exp (f y) / sum (fun z => exp (f z)) (y :: t) * plackett_luce f t end.

(* A multiplier, the same for all responses, cancels in a ranking of any length. *)
Lemma pl_shift f g lam l : (forall y, In y l -> f y = g y + lam) -> plackett_luce f l = plackett_luce g l.
Proof.
  induction l as [|y t IH]; intros H; [reflexivity|].
  change (exp (f y) / sum (fun z => exp (f z)) (y :: t) * plackett_luce f t
          = exp (g y) / sum (fun z => exp (g z)) (y :: t) * plackett_luce g t).
  rewrite IH by (intros; apply H; now right).
  assert (E : sum (fun z => exp (f z)) (y :: t) = exp lam * sum (fun z => exp (g z)) (y :: t)).
  { rewrite <- sum_mult. apply sum_ext. intros z Hz. rewrite (H z Hz), exp_plus. ring. }
  assert (0 < sum (fun z => exp (g z)) (y :: t)) by (apply sum_positive; [discriminate|intros; apply exp_pos]).
  rewrite E, (H y) by now left. rewrite exp_plus. pose proof (exp_pos lam). field. lra.
Qed.

(* Two responses: Plackett-Luce is Bradley-Terry. *)
Lemma pl_pair f w l : plackett_luce f [w; l] = sigma (f w - f l).
Proof.
  simpl. unfold sigma. replace (- (f w - f l)) with (f l + - f w) by ring. rewrite exp_plus, exp_Ropp.
  pose proof (exp_pos (f w)). pose proof (exp_pos (f l)). field. lra.
Qed.

Lemma pl_positive f l : 0 < plackett_luce f l.
Proof.
  induction l as [|y t IH]; [simpl; lra|].
  change (0 < exp (f y) / sum (fun z => exp (f z)) (y :: t) * plackett_luce f t).
  apply Rmult_lt_0_compat; [|exact IH]. apply Rdiv_lt_0_compat; [apply exp_pos|].
  apply sum_positive; [discriminate|intros; apply exp_pos].
Qed.

(* The loss that code sums up place by place. *)
Lemma minus_log_pl f y t :
  - ln (plackett_luce f (y :: t)) = ln (sum (fun z => exp (f z)) (y :: t)) - f y + - ln (plackett_luce f t).
Proof.
  change (plackett_luce f (y :: t)) with (exp (f y) / sum (fun z => exp (f z)) (y :: t) * plackett_luce f t).
  assert (0 < sum (fun z => exp (f z)) (y :: t)) by (apply sum_positive; [discriminate|intros; apply exp_pos]).
  pose proof (exp_pos (f y)). pose proof (pl_positive f t).
  unfold Rdiv. rewrite !ln_mult, ln_Rinv, ln_exp; auto using Rinv_0_lt_compat, Rmult_lt_0_compat. ring.
Qed.

End Rankings.

Arguments plackett_luce {A} f l.
