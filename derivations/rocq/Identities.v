(* What the exported identities of the claims are proved with: products of exponentials, sums of logarithms, and
   tactics that show denominators to be nonzero from the assumptions of the claim, never by assuming it. *)
Require Import Reals Lra.
Open Scope R_scope.

(* e^(n x), with the count n once as a natural and once as a real number. *)
Lemma exp_nat n c x : c = INR n -> exp (c * x) = exp x ^ n.
Proof.
  intros ->. induction n as [|n IH]; [simpl; now rewrite Rmult_0_l, exp_0|].
  rewrite S_INR, Rmult_plus_distr_r, exp_plus, IH, Rmult_1_l. simpl. ring.
Qed.

Lemma exp_nat_opp n c x : c = INR n -> exp (- (c * x)) = / exp x ^ n.
Proof. intros H. now rewrite exp_Ropp, (exp_nat n c x H). Qed.

Lemma exp_ln_nat n c a : 0 < a -> c = INR n -> exp (c * ln a) = a ^ n.
Proof. intros P H. now rewrite (exp_nat n c _ H), exp_ln. Qed.

Lemma exp_ln_nat_opp n c a : 0 < a -> c = INR n -> exp (- (c * ln a)) = / a ^ n.
Proof. intros P H. now rewrite exp_Ropp, (exp_ln_nat n c a P H). Qed.

Lemma exp_add a b u v : exp a = u -> exp b = v -> exp (a + b) = u * v.
Proof. intros <- <-. apply exp_plus. Qed.

(* A positive number and its logarithm. *)
Definition lnis a u := 0 < a /\ ln a = u.

Lemma lnis_mul a b u v : lnis a u -> lnis b v -> lnis (a * b) (u + v).
Proof. intros [Pa <-] [Pb <-]. split; [now apply Rmult_lt_0_compat|now apply ln_mult]. Qed.

Lemma lnis_pow n c a : 0 < a -> c = INR n -> lnis (a ^ n) (c * ln a).
Proof. intros P H. split; [now apply pow_lt|]. now rewrite <- (exp_ln_nat n c a P H), ln_exp. Qed.

Lemma lnis_pow_inv n c a : 0 < a -> c = INR n -> lnis (/ a ^ n) (- (c * ln a)).
Proof. intros P H. split; [now apply Rinv_0_lt_compat, pow_lt|]. now rewrite <- (exp_ln_nat_opp n c a P H), ln_exp. Qed.

Lemma lnis_exp n c x : c = INR n -> lnis (exp x ^ n) (c * x).
Proof. intros H. split; [apply pow_lt, exp_pos|]. now rewrite <- (exp_nat n c x H), ln_exp. Qed.

Lemma lnis_exp_inv n c x : c = INR n -> lnis (/ exp x ^ n) (- (c * x)).
Proof. intros H. split; [apply Rinv_0_lt_compat, pow_lt, exp_pos|]. now rewrite <- (exp_nat_opp n c x H), ln_exp. Qed.

Lemma positive_nonzero a : 0 < a -> a <> 0.
Proof. lra. Qed.

Lemma negative_nonzero a : 0 < - a -> a <> 0.
Proof. lra. Qed.

(* A number is the image of a natural number. *)
Ltac count := simpl; lra.

(* 0 < a: sums, products, inverses and powers of positive things; else linear arithmetic from the assumptions. *)
Ltac pos :=
  lazymatch goal with
  | |- 0 < exp _ => apply exp_pos
  | |- 0 < _ * _ => apply Rmult_lt_0_compat; pos
  | |- 0 < / _ => apply Rinv_0_lt_compat; pos
  | |- 0 < _ / _ => apply Rdiv_lt_0_compat; pos
  | |- 0 < _ ^ _ => apply pow_lt; pos
  | |- 0 < _ + _ => first [apply Rplus_lt_0_compat; pos | lra]
  | |- _ => first [assumption | lra]
  end.

(* a <> 0, because it is positive, or negative, or a product of such things. *)
Ltac nz :=
  lazymatch goal with
  | |- _ /\ _ => split; nz
  | |- _ * _ <> 0 => apply Rmult_integral_contrapositive_currified; nz
  | |- / _ <> 0 => apply Rinv_neq_0_compat; nz
  | |- _ ^ _ <> 0 => apply pow_nonzero; nz
  | |- exp _ <> 0 => apply positive_nonzero, exp_pos
  | |- _ => first [assumption | apply positive_nonzero; pos | apply negative_nonzero; pos]
  end.

(* A rational identity, with its denominators shown to be nonzero. *)
Ltac field_nz := first [reflexivity | ring | field; nz].
